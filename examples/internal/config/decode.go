package config

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
)

// decode puts n into v, which is addressable.
func (d *document) decode(n *node, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if t, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.decodeText(n, t)
		return
	}
	if v.Type() == reflect.TypeFor[Template]() {
		d.decodeTemplate(n, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.decodeStruct(n, v)
	case reflect.Map:
		d.decodeMap(n, v)
	case reflect.Slice:
		d.decodeList(n, v)
	case reflect.Int:
		d.decodeInt(n, v)
	case reflect.Bool:
		if b, ok := n.value.(bool); ok {
			v.SetBool(b)
		} else {
			d.wrong(n, "must be true or false", n.kind())
		}
	case reflect.String:
		if s, ok := n.value.(string); ok {
			v.SetString(s)
		} else {
			d.wrong(n, "must be a string", n.kind())
		}
	}
}

// wrong tells that n is not what it must be.
func (d *document) wrong(n *node, must, is string) {
	n.broken = true
	n.file().fault(n.place(), n.start, "%s, not %s", must, is)
}

func (d *document) decodeText(n *node, t encoding.TextUnmarshaler) {
	var text, is string
	switch v := n.value.(type) {
	case string:
		text, is = v, strconv.Quote(Shorten(v))
	case json.Number:
		text, is = v.String(), Shorten(v.String())
	default:
		is = n.kind()
	}
	if err := t.UnmarshalText([]byte(text)); err != nil {
		d.wrong(n, err.Error(), is)
	}
}

// object returns the members of n, none after telling that it is no object.
func (d *document) object(n *node) map[string]*node {
	members, ok := n.value.(map[string]*node)
	if !ok {
		d.wrong(n, "must be an object", n.kind())
	}
	return members
}

func (d *document) decodeStruct(n *node, v reflect.Value) {
	fields := make(map[string]int)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Tag.Get("json"); name != "" {
			fields[name] = i
		}
	}
	others, hasOthers := fields["*"] // A map of what is no other field.
	delete(fields, "*")
	for name, member := range d.object(n) {
		if i, ok := fields[name]; ok {
			d.decode(member, v.Field(i))
		} else if hasOthers {
			d.decodeMember(name, member, v.Field(others))
		} else {
			member.file().fault(member.place(), member.start, "unknown field%s", didYouMean(name, fields))
		}
	}
}

func (d *document) decodeMap(n *node, v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	for name, member := range d.object(n) {
		d.decodeMember(name, member, v)
	}
}

func (d *document) decodeMember(name string, member *node, v reflect.Value) {
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	item := reflect.New(v.Type().Elem()).Elem()
	d.decode(member, item)
	v.SetMapIndex(reflect.ValueOf(name), item)
}

func (d *document) decodeList(n *node, v reflect.Value) {
	items, ok := n.value.([]*node)
	if !ok {
		must := "must be a list"
		if v.Type().Elem().Kind() == reflect.String {
			must = "must be a list of strings"
		}
		d.wrong(n, must, n.kind())
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
	for i, item := range items {
		d.decode(item, v.Index(i))
	}
}

func (d *document) decodeInt(n *node, v reflect.Value) {
	number, ok := n.value.(json.Number)
	if !ok {
		d.wrong(n, "must be a whole number", n.kind())
		return
	}
	i, err := strconv.ParseInt(number.String(), 10, v.Type().Bits())
	switch {
	case errors.Is(err, strconv.ErrRange):
		d.wrong(n, fmt.Sprintf("must be a number of %d bits", v.Type().Bits()), Shorten(number.String()))
	case err != nil:
		d.wrong(n, "must be a whole number", Shorten(number.String()))
	}
	v.SetInt(i)
}
