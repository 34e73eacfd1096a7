package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// jsonForm finds the top-level "model" of a JSON object. It keeps one member at a time,
// without what is nested in it and no more than a name may take, so that it does not
// matter how large values are, how deep, or which comes first.
type jsonForm struct {
	finder *finder
	offset int64 // of what comes next
	depth  int   // 0: before the object; 1: in it; more: in a value of it
	quoted bool  // within a string
	escape bool  // after a backslash in it

	member []byte // its beginning, after a brace
	colon  int    // where it stands in member; 0: it has not come
	at, to int64  // where the latest string of member stands
}

// longestMember is how long a member with a name may be, with all bytes of its strings
// escaped.
const longestMember = 6*(len("model")+longestName) + len(`{"":""}`)

func (j *jsonForm) feed(piece []byte) error {
	if j.depth == 0 {
		text := bytes.TrimLeft(piece, " \t\r\n")
		j.offset += int64(len(piece) - len(text))
		switch {
		case len(text) == 0:
			return nil
		case text[0] != '{':
			return noObject(text[0])
		}
		j.depth, j.offset, j.member, piece = 1, j.offset+1, []byte("{"), text[1:]
	}
	for len(piece) > 0 && !j.finder.over && j.finder.wrong == nil {
		n := len(piece)
		if j.escape {
			n = 1
		} else if i := bytes.IndexAny(piece, j.signs()); i >= 0 {
			n = i + 1
		}
		if err := j.take(piece[:n]); err != nil {
			return err
		}
		piece = piece[n:]
	}
	return nil
}

func (j *jsonForm) end() error {
	if j.depth == 0 {
		return badRequest("the body is empty")
	}
	return badRequest("the JSON body ends too early")
}

// signs are the bytes that matter next.
func (j *jsonForm) signs() string {
	switch {
	case j.quoted:
		return `"\`
	case j.depth > 1:
		return `"{}[]`
	}
	return `"{}[],:`
}

// take takes text up to a sign, or as much as there is.
func (j *jsonForm) take(text []byte) error {
	sign, outer := text[len(text)-1], j.depth == 1
	j.offset += int64(len(text))
	if !j.quoted {
		text = bytes.TrimSpace(text)
	}
	switch {
	case j.escape:
		j.escape = false
	case j.quoted:
		j.escape, j.quoted = sign == '\\', sign != '"'
		if outer {
			j.to = j.offset
		}
	case sign == '"':
		j.quoted = true
		if outer {
			j.at = j.offset - 1
		}
	case sign == '{', sign == '[':
		j.depth++
	case !outer && (sign == '}' || sign == ']'):
		j.depth--
		text = []byte{sign} // All that is kept of what was nested is how it begins and ends.
	case outer && (sign == '}' || sign == ','):
		j.keep(text[:len(text)-1])
		return j.endMember(sign == '}')
	case outer && sign == ':' && j.colon == 0:
		j.colon = len(j.member) + len(text) - 1
	}
	if outer || j.depth == 1 {
		j.keep(text)
	}
	return nil
}

// keep adds to member. One that is too long is a byte longer than it may be.
func (j *jsonForm) keep(text []byte) {
	j.member = append(j.member, text[:min(len(text), longestMember+1-len(j.member))]...)
}

// endMember looks at a member once all of it has come.
func (j *jsonForm) endMember(last bool) error {
	long, colon, member := len(j.member) > longestMember, j.colon, append(j.member, '}')
	if !long && !json.Valid(member) {
		return badRequest(fmt.Sprintf("the body is not JSON: what ends at byte %d", j.offset))
	}
	j.member, j.colon, j.finder.over = j.member[:1], 0, last
	var key, name string
	if colon >= len(member)-1 {
		colon = 0 // It was cut off.
	}
	if colon > 0 {
		_ = json.Unmarshal(member[1:colon], &key) // Only one that is cut is no string.
	}
	value := member[colon+1 : len(member)-1]
	switch {
	case key == "stream":
		j.finder.streams = string(value) == "true"
	case key != "model":
	case long:
		j.finder.wrong = errLongName
	case json.Unmarshal(value, &name) != nil || value[0] != '"':
		j.finder.wrong = badRequest(`"model" is not a string`)
	default:
		j.finder.names(name, j.at, j.to, quoteJSON)
	}
	return nil
}

// quoteJSON returns s as a JSON string.
func quoteJSON(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // Any string can be written.
	}
	return string(text)
}

// noObject says what is wrong with a body that begins with c.
func noObject(c byte) error {
	if strings.IndexByte(`["-0123456789`, c) >= 0 {
		return badRequest("the body is not a JSON object")
	}
	return badRequest("the body is not JSON")
}
