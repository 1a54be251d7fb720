package accountsapi

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestFields(t *testing.T) {
	for in, want := range map[string]fields{
		`{"a": "b",}`: {"a": "b"}, `{"a": "b" , }`: {"a": "b"}, `{"a": ",}"}`: {"a": ",}"}, `{"a": "\",}",}`: {"a": `",}`},
		`{"a": ["b",],}`: {"a": []any{"b"}}, `{}`: {}, ``: {}, `{,}`: {}, `{"a":1}`: {"a": 1.0}, `{"a":null}`: {"a": nil},
		`{"a" "b"}`: nil, `{"a":"b",,}`: nil, `[]`: nil, `null`: nil, `"a"`: nil, `{"a":"b"} x`: nil, `{`: nil, `,`: nil,
	} {
		got, err := parseJSON([]byte(in))
		if want == nil && err == nil || want != nil && (err != nil || !reflect.DeepEqual(got, want)) {
			t.Errorf("%s: %v %v", in, got, err)
		}
	}
}

// FuzzFields: what is JSON is read as JSON, and nothing else is read that is not JSON but for its last commas.
func FuzzFields(f *testing.F) {
	for _, s := range []string{`{"a":"b",}`, `{"a":{"b":[1,2,],},}`, `{"a":"\\\",}"}`, `{,}`, `{"a":1}`, "\x00", `{"a":",]"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseJSON(body)
		var want map[string]any
		if json.Unmarshal(body, &want) == nil && want != nil {
			if err != nil || !reflect.DeepEqual(map[string]any(got), want) {
				t.Fatalf("%q: %v %v, want %v", body, got, err, want)
			}
			return
		}
		if err == nil && len(body) > 0 {
			if b, err := json.Marshal(got); err != nil || len(b) == 0 {
				t.Fatalf("%q: %v", body, err)
			}
		}
	})
}
