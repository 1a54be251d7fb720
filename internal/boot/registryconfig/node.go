package registryconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

type kind int

const (
	isNull kind = iota
	isBool
	isNumber
	isString
	isList
	isObject
)

// node is one value of a document, whether it was JSON or YAML.
type node struct {
	kind  kind
	line  int
	path  string
	text  string // of scalars
	items []*node
	keys  []string // of objects, beside items
}

// child is the value under a key in any case of letters.
func (n *node) child(key string) *node {
	for i, k := range n.keys {
		if strings.EqualFold(k, key) {
			return n.items[i]
		}
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// maxDepth bounds nesting; zot's deepest key has nine levels.
const maxDepth = 64

var errDepth = errors.New("nested too deeply")

type jsonReader struct {
	dec  *json.Decoder
	data []byte
	// counted and line remember how far lines were counted: offsets only grow.
	counted, line int
}

// readJSON reads one JSON document, telling duplicate keys by path and line.
func readJSON(data []byte) (*node, error) {
	r := &jsonReader{dec: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
	r.dec.UseNumber()
	n, err := r.value("", 0)
	if err != nil {
		return nil, r.explain(err)
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, r.explain(errors.New("unexpected text after the document"))
	}
	return n, nil
}

func (r *jsonReader) explain(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("line %d: %w", r.at(), err)
}

func (r *jsonReader) at() int {
	off := min(int(r.dec.InputOffset()), len(r.data))
	r.line += bytes.Count(r.data[r.counted:off], []byte{'\n'})
	r.counted = off
	return r.line
}

func (r *jsonReader) value(path string, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	t, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	n := &node{path: path, line: r.at()}
	switch t := t.(type) {
	case nil:
	case bool:
		n.kind, n.text = isBool, strconv.FormatBool(t)
	case json.Number:
		n.kind, n.text = isNumber, t.String()
	case string:
		n.kind, n.text = isString, t
	case json.Delim:
		if t == '[' {
			n.kind = isList
			err = r.list(n, depth)
		} else {
			n.kind = isObject
			err = r.object(n, depth)
		}
	}
	return n, err
}

func (r *jsonReader) list(n *node, depth int) error {
	for r.dec.More() {
		v, err := r.value(fmt.Sprintf("%s[%d]", n.path, len(n.items)), depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, v)
	}
	_, err := r.dec.Token()
	return err
}

func (r *jsonReader) object(n *node, depth int) error {
	for r.dec.More() {
		t, err := r.dec.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string)
		if err := n.unique(key); err != nil {
			return err
		}
		v, err := r.value(join(n.path, key), depth+1)
		if err != nil {
			return err
		}
		n.keys, n.items = append(n.keys, key), append(n.items, v)
	}
	_, err := r.dec.Token()
	return err
}

func (n *node) unique(key string) error {
	for _, k := range n.keys {
		if k == key {
			return fmt.Errorf("%s: key given twice", join(n.path, key))
		}
	}
	return nil
}
