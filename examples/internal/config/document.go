package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of a configuration file.
const (
	maxConfig = 1 << 20 // bytes
	maxDepth  = 16      // of objects and lists in each other
)

const space = " \t\r\n" // between tokens

// Parse reads the configuration in data, gives defaults to what it leaves out, and
// checks it. File is the name that errors tell, and its folder is where a relative dir
// begins.
//
// It is stricter than encoding/json, for a word that is silently ignored costs an
// operator an evening: unknown and repeated fields, null, and text that is not
// UTF-8 are errors. All errors are told at once, each with its line and field.
func Parse(file string, data []byte) (*Config, error) {
	d := &document{name: file, data: data}
	c := new(Config)
	if root := d.read(); root != nil {
		d.include(root)
		d.spread(root)
		d.decode(root, reflect.ValueOf(c).Elem())
		c.fill()
		c.anchor(file)
		for _, f := range c.check() {
			if n, rest, broken := root.find(f.at); !broken {
				n.file().fault(n.place().then(rest), n.start, "%s", f.text) // It may be in defaults, or in another file.
			}
		}
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// node is one value of a file.
type node struct {
	parent *node
	in     *document // of a node without a parent
	key    any       // in parent: a string, or an index
	start  int       // offset of it or, in an object, of its key
	value  any       // map[string]*node, []*node, string, json.Number, bool, nil
	broken bool
}

// place returns where n stands.
func (n *node) place() place {
	if n.parent == nil {
		return nil
	}
	return n.parent.place().in(n.key)
}

// file returns the file that n is in.
func (n *node) file() *document {
	for n.parent != nil {
		n = n.parent
	}
	return n.in
}

// find returns the node at p or, if there is none, the last one on the way to it and
// the rest of the way. Broken: that node could not be decoded, and whatever else is wrong
// there may be only because of that.
func (n *node) find(p place) (last *node, rest place, broken bool) {
	for i, part := range p {
		var next *node
		switch v := n.value.(type) {
		case map[string]*node:
			key, _ := part.(string)
			next = v[key]
		case []*node:
			if i, ok := part.(int); ok && i < len(v) {
				next = v[i]
			}
		}
		if next == nil {
			return n, p[i:], n.broken
		}
		n = next
	}
	return n, nil, n.broken
}

// kind says what n is, without what it says: that may be a secret.
func (n *node) kind() string {
	switch v := n.value.(type) {
	case map[string]*node:
		return "an object"
	case []*node:
		return "a list"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return strconv.FormatBool(v)
	}
	return "null"
}

// document is a file that is being read.
type document struct {
	name   string
	data   []byte
	dec    *json.Decoder
	faults []fault

	included      []*document // files that it names
	includedBytes int
}

func (d *document) fault(at place, offset int, format string, args ...any) {
	d.faults = append(d.faults, fault{at, offset, fmt.Sprintf(format, args...)})
}

// read returns the tree of the file, nil if it is not JSON.
func (d *document) read() *node {
	if !d.readable() {
		return nil
	}
	d.dec = json.NewDecoder(bytes.NewReader(d.data))
	d.dec.UseNumber()
	root := &node{in: d, start: d.begin()}
	if !d.Value(root, 0) {
		return nil
	}
	end := d.begin()
	if _, err := d.dec.Token(); err != io.EOF {
		d.fault(nil, end, "the configuration has ended before this")
		return nil
	}
	return root
}

// readable checks what has to be right before the file can be taken apart.
func (d *document) readable() bool {
	switch {
	case len(d.data) > maxConfig:
		d.fault(nil, 0, "the file has %d bytes; a configuration has at most %v", len(d.data), Size(maxConfig))
	case bytes.HasPrefix(d.data, []byte("\ufeff")):
		d.fault(nil, 0, "the file begins with a byte order mark; save it as UTF-8 without one")
	case !utf8.Valid(d.data):
		d.fault(nil, bytes.IndexRune(d.data, utf8.RuneError), "the file is not UTF-8 here")
	case len(bytes.TrimSpace(d.data)) == 0:
		d.fault(nil, 0, "the file is empty")
	}
	return len(d.faults) == 0
}

// line returns the number of the line at offset.
func (d *document) line(offset int) int {
	return 1 + bytes.Count(d.data[:offset], []byte("\n"))
}

// begin returns the offset of the token that comes next.
func (d *document) begin() int {
	rest := bytes.TrimLeft(d.data[d.dec.InputOffset():], space)
	if len(rest) > 0 && (rest[0] == ',' || rest[0] == ':') {
		rest = bytes.TrimLeft(rest[1:], space)
	}
	if len(rest) == 0 { // The end: the line of what came last.
		return len(bytes.TrimRight(d.data, space))
	}
	return len(d.data) - len(rest)
}

// token returns the next token of n, false after telling why there is none.
func (d *document) token(n *node) (json.Token, bool) {
	start := d.begin()
	token, err := d.dec.Token()
	if err == nil {
		if s, ok := token.(string); ok && strings.ContainsRune(s, utf8.RuneError) {
			d.fault(n.place(), start, `has "\ufffd", which stands for text that was broken`)
		}
		return token, true
	}
	if err == io.ErrUnexpectedEOF || start == len(bytes.TrimRight(d.data, space)) {
		d.fault(nil, start, "the file ends in the middle")
	} else {
		d.fault(n.place(), start, "%s", unexpected(d.data[:start], d.data[start:]))
	}
	return nil, false
}

// unexpected says why JSON cannot go on as it does. It guesses what was meant, which
// the errors of encoding/json do not, and tells no more of the text than a
// character: it may be a secret.
func unexpected(before, after []byte) string {
	last, _ := utf8.DecodeLastRune(bytes.TrimRight(before, space))
	next, _ := utf8.DecodeRune(after)
	wordOr := func(r rune, set string) bool { return strings.ContainsRune(set, r) || plainWord(string(r)) }
	switch {
	case next == '/' || next == '#':
		return "JSON has no comments"
	case last == ',' && (next == '}' || next == ']'):
		return "a comma too many before this"
	case wordOr(last, `"}]`) && wordOr(next, `"{[`):
		return "a comma or a colon is missing before this"
	case next == '"':
		return `a string that does not end, or needs "\\" before a character in it`
	}
	return fmt.Sprintf("%q cannot stand here", next)
}

// Value reads the value of n, which is depth levels deep.
func (d *document) Value(n *node, depth int) bool {
	token, ok := d.token(n)
	if !ok {
		return false
	}
	delim, ok := token.(json.Delim)
	if !ok {
		n.value = token
		return true
	}
	if depth++; depth > maxDepth {
		d.fault(nil, n.start, "objects and lists are more than %d deep", maxDepth)
		return false
	}
	if delim == '{' {
		return d.members(n, depth)
	}
	return d.items(n, depth)
}

// members reads the rest of an object.
func (d *document) members(n *node, depth int) bool {
	all := make(map[string]*node)
	n.value = all
	for d.dec.More() {
		member := &node{parent: n, start: d.begin()}
		token, ok := d.token(n)
		if !ok {
			return false
		}
		key := token.(string)
		member.key = key
		if !d.Value(member, depth) {
			return false
		}
		if first := all[key]; first != nil {
			d.fault(member.place(), member.start, "is in line %d already", d.line(first.start))
			continue
		}
		all[key] = member
	}
	_, ok := d.token(n)
	return ok
}

// items reads the rest of a list.
func (d *document) items(n *node, depth int) bool {
	var all []*node
	for d.dec.More() {
		item := &node{parent: n, key: len(all), start: d.begin()}
		if !d.Value(item, depth) {
			return false
		}
		all = append(all, item)
	}
	n.value = all
	_, ok := d.token(n)
	return ok
}
