package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/textproto"
	"net/url"
	"strings"
)

// pairsForm finds the model in a URL-encoded form, which has to be short.
type pairsForm struct {
	finder *finder
	text   []byte
}

// longestPairs is how long a URL-encoded form may be.
const longestPairs = 64 << 10

func (p *pairsForm) feed(piece []byte) error {
	if p.text = append(p.text, piece...); len(p.text) > longestPairs {
		return badRequest(fmt.Sprintf("a form that is longer than %d bytes: send it as multipart/form-data", longestPairs))
	}
	return nil
}

func (p *pairsForm) end() error {
	if bytes.IndexByte(p.text, '=') < 0 {
		return badRequest("the body is not JSON, and not a form")
	}
	at := int64(0)
	for pair := range strings.SplitSeq(string(p.text), "&") {
		key, value, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(key)
		name, err2 := url.QueryUnescape(value)
		if err = cmp.Or(err, err2); err != nil {
			return badRequest("form: " + err.Error())
		}
		if to := at + int64(len(pair)); key == "model" {
			p.finder.names(name, to-int64(len(value)), to, url.QueryEscape)
		}
		at += int64(len(pair)) + 1
	}
	return nil
}

// partsForm finds the part "model" of a multipart form (RFC 7578). Of the other parts,
// which may be large files, it keeps nothing.
type partsForm struct {
	finder    *finder
	delimiter []byte // CRLF, dashes and the boundary
	begun     bool   // the preamble is over
	model     bool   // it is in the part "model"
	text      []byte // what it has not done with
	room      []byte // that text lies in
	offset    int64  // of text
	value     []byte // of the part "model", after the line end of its head
}

// longestHead is how long the head of a part, and the line before it, may be.
const longestHead = 8 << 10

func newPartsForm(f *finder, boundary string) *partsForm {
	// The first delimiter may stand at the very beginning: its line end is made up.
	return &partsForm{finder: f, delimiter: []byte("\r\n--" + boundary), text: []byte("\r\n"), offset: -2}
}

func (p *partsForm) feed(piece []byte) error {
	const most = 4 << 10 // So that text stays small.
	for ; len(piece) > most; piece = piece[most:] {
		if err := p.feed(piece[:most]); err != nil {
			return err
		}
	}
	p.room = append(append(p.room[:0], p.text...), piece...)
	p.text = p.room
	for more := true; more && !p.finder.over && p.finder.wrong == nil; {
		var err error
		if more, err = p.next(); err != nil {
			return badRequest("multipart form: " + err.Error())
		}
	}
	return nil
}

func (p *partsForm) end() error { return badRequest("multipart form: it ends too early") }

// next goes on to the next delimiter, and takes the head of the part that follows. It
// returns false if more has to come first.
func (p *partsForm) next() (more bool, err error) {
	i := bytes.Index(p.text, p.delimiter)
	if i < 0 {
		p.skip(max(0, len(p.text)-len(p.delimiter)+1))
		return false, nil
	}
	p.skip(i)
	rest := p.text[len(p.delimiter):]
	head, _, ended := bytes.Cut(rest, []byte("\r\n\r\n"))
	line, lines, whole := bytes.Cut(head, []byte("\r\n"))
	blank := len(bytes.Trim(line, " \t\r")) == 0
	switch {
	case len(rest) < 2:
		return false, nil
	case bytes.HasPrefix(rest, []byte("--")):
		p.endPart()
		p.finder.over = true
	case strings.IndexByte(" \t\r\n", rest[0]) < 0, !p.begun && !blank:
		p.skip(1) // It only looks like a delimiter.
	case !blank:
		return false, errors.New("a delimiter that is no line of its own")
	case len(head) > longestHead:
		return false, errors.New("the head of a part is too long")
	case !ended:
		if whole {
			p.endPart()
		}
		return false, nil
	default:
		p.endPart()
		return true, p.beginPart(lines, len(p.delimiter)+len(head))
	}
	return true, nil
}

// beginPart begins a part with such lines in its head, of which n bytes end before the
// last two line ends. The last may be that of the next delimiter: then it is empty.
func (p *partsForm) beginPart(lines []byte, n int) error {
	header, err := textproto.NewReader(bufio.NewReader(io.MultiReader(bytes.NewReader(lines), strings.NewReader("\r\n\r\n")))).ReadMIMEHeader()
	if err != nil {
		return err
	}
	p.skip(n + len("\r\n"))
	kind, params, _ := mime.ParseMediaType(header.Get("Content-Disposition"))
	p.begun, p.model, p.value = true, kind == "form-data" && params["name"] == "model", nil
	return nil
}

// skip is done with n bytes.
func (p *partsForm) skip(n int) {
	if p.model {
		const most = longestName + len("\r\n")
		p.value = append(p.value, p.text[:min(n, most+1-len(p.value))]...)
		if len(p.value) > most {
			p.finder.wrong = errLongName
		}
	}
	p.text, p.offset = p.text[n:], p.offset+int64(n)
}

// endPart looks at a part once all of it has come.
func (p *partsForm) endPart() {
	if p.model {
		name := strings.TrimPrefix(string(p.value), "\r\n")
		p.finder.names(name, p.offset-int64(len(name)), p.offset, func(name string) string { return name })
	}
	p.model = false
}
