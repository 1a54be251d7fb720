package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxDepth bounds the nesting of objects and arrays.
const maxDepth = 64

// object is a JSON object whose keys count as they are spelt: encoding/json would take "Config" for "config".
type object map[string]json.RawMessage

// has says whether a key is there with a value that is not null.
func (o object) has(key string) bool {
	v, ok := o[key]
	return ok && !bytes.Equal(bytes.TrimSpace(v), []byte("null"))
}

// get decodes a key's value; a missing or null one leaves dest alone.
func (o object) get(key string, dest any) error {
	if !o.has(key) {
		return nil
	}
	if err := json.Unmarshal(o[key], dest); err != nil {
		return fmt.Errorf("%s has a wrong type", key)
	}
	return nil
}

// parseObject accepts exactly one JSON object: valid UTF-8, no key twice in any object, nothing after it.
func parseObject(body []byte) (object, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("the manifest is not valid UTF-8")
	}
	if err := checkKeys(body); err != nil {
		return nil, err
	}
	var o object
	if err := json.Unmarshal(body, &o); err != nil || o == nil {
		return nil, errors.New("the manifest is not a JSON object")
	}
	return o, nil
}

// level is an open object or array while walking tokens.
type level struct {
	keys map[string]struct{} // nil for an array
	key  bool                // the next token is a key
}

// checkKeys walks all tokens and refuses duplicate keys, deep nesting and trailing data.
func checkKeys(body []byte) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var stack []*level
	for {
		t, err := dec.Token()
		if err == io.EOF && len(stack) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the manifest is not valid JSON: %v", err)
		}
		var top *level
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		if top != nil && top.key {
			if k, ok := t.(string); ok {
				if _, dup := top.keys[k]; dup {
					return fmt.Errorf("the key %.100q stands twice in an object", k)
				}
				top.keys[k], top.key = struct{}{}, false
				continue
			}
		}
		if stack, err = step(stack, t); err != nil {
			return err
		}
	}
}

// step follows a value or delimiter.
func step(stack []*level, t json.Token) ([]*level, error) {
	switch t {
	case json.Delim('{'):
		stack = append(stack, &level{keys: map[string]struct{}{}, key: true})
	case json.Delim('['):
		stack = append(stack, &level{})
	default:
		if t == json.Delim('}') || t == json.Delim(']') {
			stack = stack[:len(stack)-1]
		}
		// A value has ended: in an object, a key follows.
		if n := len(stack); n > 0 && stack[n-1].keys != nil {
			stack[n-1].key = true
		}
	}
	if len(stack) > maxDepth {
		return nil, errors.New("the manifest is nested too deeply")
	}
	return stack, nil
}

// Object reads one JSON object by the same strict rules, for documents that are no manifests.
func Object(body []byte) (map[string]json.RawMessage, error) { return parseObject(body) }
