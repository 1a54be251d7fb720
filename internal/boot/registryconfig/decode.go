package registryconfig

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// decoder fills Config from a document and collects everything that is wrong with it.
type decoder struct {
	problems []Problem
	warnings []Problem
}

func (d *decoder) fail(n *node, format string, a ...any) {
	d.problems = append(d.problems, Problem{Key: n.path, Line: n.line, Text: fmt.Sprintf(format, a...)})
}

func (d *decoder) warn(n *node, format string, a ...any) {
	d.warnings = append(d.warnings, Problem{Key: n.path, Line: n.line, Text: fmt.Sprintf(format, a...)})
}

var durationType = reflect.TypeFor[time.Duration]()

// into decodes as zot's loader does: weakly typed ("true" is a boolean, 5000 a port), one value where a list is meant
// is a list of one, and null leaves the default.
func (d *decoder) into(n *node, v reflect.Value, later string) {
	if n.kind == isNull {
		return
	}
	switch {
	case v.Type() == reflect.TypeFor[*Later]():
		d.later(n, v, later)
		return
	case v.Type() == durationType:
		d.duration(n, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.into(n, v.Elem(), later)
	case reflect.Struct:
		d.structure(n, v)
	case reflect.Map:
		d.mapping(n, v)
	case reflect.Slice:
		d.slice(n, v)
	default:
		d.scalar(n, v)
	}
}

func (d *decoder) structure(n *node, v reflect.Value) {
	if n.kind != isObject {
		d.fail(n, "must be an object")
		return
	}
	for i, key := range n.keys {
		f, later, ok := field(v, key)
		switch {
		case ok:
			d.into(n.items[i], f, later)
		case v.FieldByName("Other").IsValid():
			// The parameters of other drivers are told by the check of the driver's name.
			other := v.FieldByName("Other")
			other.Set(reflect.Append(other, reflect.ValueOf(key)))
		default:
			d.fail(n.items[i], "unknown key")
		}
	}
}

// field finds a struct's field for a key, in any case of letters.
func field(v reflect.Value, key string) (f reflect.Value, later string, ok bool) {
	t := v.Type()
	for i := range t.NumField() {
		name, opt, _ := strings.Cut(t.Field(i).Tag.Get("key"), ",")
		if opt == "squash" {
			if f, later, ok := field(v.Field(i), key); ok {
				return f, later, true
			}
		} else if name != "" && strings.EqualFold(name, key) {
			return v.Field(i), t.Field(i).Tag.Get("later"), true
		}
	}
	return reflect.Value{}, "", false
}

func (d *decoder) mapping(n *node, v reflect.Value) {
	if n.kind != isObject {
		d.fail(n, "must be an object")
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for i, key := range n.keys {
		e := reflect.New(v.Type().Elem().Elem())
		d.into(n.items[i], e.Elem(), "")
		v.SetMapIndex(reflect.ValueOf(key), e)
	}
}

func (d *decoder) slice(n *node, v reflect.Value) {
	items := n.items
	if n.kind != isList {
		items = []*node{n}
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.into(item, out.Index(i), "")
	}
	v.Set(out)
}

func (d *decoder) duration(n *node, v reflect.Value) {
	if n.kind == isNumber {
		if ns, err := strconv.ParseInt(n.text, 10, 64); err == nil {
			v.SetInt(ns)
			return
		}
	}
	t, err := time.ParseDuration(n.text)
	if err != nil || (n.kind != isString && n.kind != isNumber) {
		d.fail(n, "must be a duration such as \"24h\"")
		return
	}
	v.SetInt(int64(t))
}

func (d *decoder) scalar(n *node, v reflect.Value) {
	if n.kind >= isList {
		d.fail(n, "must be a single value")
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.text)
	case reflect.Bool:
		b, err := strconv.ParseBool(n.text)
		if err != nil {
			d.fail(n, "must be true or false")
		}
		v.SetBool(b)
	default:
		i, err := strconv.ParseInt(n.text, 10, 64)
		if err != nil || v.OverflowInt(i) {
			d.fail(n, "must be a whole number")
			return
		}
		v.SetInt(i)
	}
}
