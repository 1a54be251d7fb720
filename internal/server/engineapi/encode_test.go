package engineapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"longshore/internal/server/route"
)

type element struct {
	ID   string
	Tags []string          `json:",omitempty"`
	Map  map[string]string `json:",omitempty"`
}

type named []element

func (n named) MarshalJSON() ([]byte, error) { return json.Marshal(len(n)) }

type refusing struct{ refuses bool }

func (r refusing) MarshalJSON() ([]byte, error) {
	if r.refuses {
		return nil, errors.New("refused")
	}
	return []byte("{}"), nil
}

// However long a list is, and whatever else an answer may be, its text is the encoder's.
func TestEncodeAnswer(t *testing.T) {
	answers := []any{nil, "<a>&", 3, []byte("bytes, not a list"), make([]byte, 1000), make([]string, 1000), map[string]int{"a": 1}, []*element(nil), []element(nil)}
	for _, n := range []int{0, 1, alone - 1, 2*alone - 1, 2 * alone, 2*alone + 1, 1000} {
		values, pointers := make([]element, n), make([]*element, n)
		for i := range n {
			values[i] = element{ID: fmt.Sprint("<é\"\n>", i), Tags: []string{"]", "["}, Map: map[string]string{"b": "]\n", "a": ""}}
			if i%7 != 0 { // null is an element, too
				pointers[i] = &values[i]
			}
		}
		answers = append(answers, values, pointers, named(values), &values)
	}
	for i, a := range answers {
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(a); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := encodeAnswer(&got, a); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("answer %d (%T): %v\n%.200s\nwant\n%.200s", i, a, err, got.String(), want.String())
		}
	}
	var got bytes.Buffer
	if err := encodeAnswer(&got, route.Encoded("{}")); err != nil || got.String() != "{}\n" {
		t.Errorf("%q %v", got.String(), err)
	}
}

// piece is an element of a list that keeps texts; it is left out when it has none.
type piece struct {
	text string
	kept bool
}

func (p piece) AppendText(b []byte, _ *route.Edit) ([]byte, error) {
	if p.text == "refused" {
		return nil, errors.New(p.text)
	}
	return append(b, p.text...), nil
}

func (p piece) Kept(*route.Edit) bool { return p.kept }

// By however many processors a list is encoded, and whoever is left out of it, it is one list.
func TestEncodeKept(t *testing.T) {
	for _, n := range []int{0, 1, 2*alone - 1, 2 * alone, 1000} {
		for _, leave := range []int{0, 1, 2, 7} { // every so many are left out
			for _, kept := range []bool{true, false} {
				var l route.List
				want := []string{}
				for i := range n {
					p := piece{kept: kept}
					if leave == 0 || i%leave != 0 && i < n/2 { // the second half is empty
						p.text = fmt.Sprintf(`{"ID":"%d"}`, i)
						want = append(want, p.text)
					}
					l.Elements = append(l.Elements, p)
				}
				var got bytes.Buffer
				if err := encodeAnswer(&got, l); err != nil || got.String() != "["+strings.Join(want, ",")+"]\n" {
					t.Errorf("%d, every %d left out, kept %v: %v\n%.200s", n, leave, kept, err, got.String())
				}
				got.Reset()
				if l.Elements = append(l.Elements, piece{text: "refused"}); encodeAnswer(&got, l) == nil {
					t.Errorf("an element of %d refused, and nobody heard", n)
				}
			}
		}
	}
}

func TestEncodeAnswerThatFails(t *testing.T) {
	for _, at := range []int{0, 999} {
		list := make([]refusing, 1000)
		list[at].refuses = true
		if err := encodeAnswer(new(bytes.Buffer), list); err == nil {
			t.Errorf("element %d refused, and nobody heard", at)
		}
	}
}
