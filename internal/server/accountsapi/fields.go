package accountsapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// maxBody bounds bodies in bytes.
const maxBody = 64 << 10

// fields are what a body tells, by name. A nil value is JSON's null.
type fields map[string]any

var errBody = &answer{http.StatusBadRequest, "JSON parse error"}

// readFields reads a JSON object or a form. A body without a Content-Type is what it looks like: the documents' own
// examples have none.
func readFields(w http.ResponseWriter, r *http.Request) (fields, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, &answer{http.StatusRequestEntityTooLarge, "The body is too large."}
	}
	if err != nil {
		return nil, errBody
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // an unreadable one is an unknown one
	trimmed := bytes.TrimSpace(body)
	switch {
	case kind == "application/json", kind == "" && bytes.HasPrefix(trimmed, []byte("{")):
		return parseJSON(trimmed)
	case kind == "application/x-www-form-urlencoded", kind == "":
		return parseForm(string(body))
	}
	return nil, &answer{http.StatusUnsupportedMediaType, "Unsupported media type '" + clip(kind) + "' in request."}
}

func parseForm(body string) (fields, error) {
	q, err := url.ParseQuery(body)
	if err != nil {
		return nil, &answer{http.StatusBadRequest, "The form cannot be read."}
	}
	out := fields{}
	for name, values := range q {
		out[name] = values[len(values)-1]
	}
	return out, nil
}

// parseJSON reads an object. The documents' examples have a comma after the last member, which clients were copied from:
// it is read over.
func parseJSON(body []byte) (fields, error) {
	if len(body) == 0 {
		return fields{}, nil
	}
	out := fields{}
	if json.Unmarshal(body, &out) == nil && out != nil {
		return out, nil
	}
	out = fields{}
	if err := json.Unmarshal(withoutLastCommas(body), &out); err != nil || out == nil {
		return nil, errBody
	}
	return out, nil
}

// withoutLastCommas drops commas before a closing bracket, outside of strings.
func withoutLastCommas(body []byte) []byte {
	out := make([]byte, 0, len(body))
	comma := -1 // where a comma stands in out that nothing but spaces has followed
	inString, escaped := false, false
	for _, c := range body {
		if inString {
			inString = escaped || c != '"'
			escaped = c == '\\' && !escaped
			out = append(out, c)
			continue
		}
		switch c {
		case '}', ']':
			if comma >= 0 {
				out[comma] = ' '
			}
			comma = -1
		case ',':
			comma = len(out)
		case ' ', '\t', '\r', '\n':
		default:
			inString, comma = c == '"', -1
		}
		out = append(out, c)
	}
	return out
}

// text is a string, nil when it is not there. Other values are told by name.
func (f fields) text(name string, wrong invalid) *string {
	switch v := f[name].(type) {
	case string:
		v = strings.TrimSpace(v)
		return &v
	case nil:
		if _, there := f[name]; there {
			wrong[name] = []string{"This field may not be null."}
		}
	default:
		wrong[name] = []string{"Not a valid string."}
	}
	return nil
}

// truth is a boolean that may only be true, false when it is not there.
func (f fields) truth(name string, wrong invalid) bool {
	v, there := f[name]
	switch {
	case !there:
		return false
	case v == true, v == "true", v == "True", v == "1":
		return true
	}
	wrong[name] = []string{"Must be true or absent."}
	return false
}
