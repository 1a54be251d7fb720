package jsontree

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestEdit(t *testing.T) {
	v, err := Parse([]byte(` {"a": 1, "b": {"c": [1, "x\"y\\", {"d": null}], "e": 12345678901234567890}, "k\u00e9y": true, "s":""} `))
	if err != nil {
		t.Fatal(err)
	}
	v.Member("b").Delete("e")
	v.Set("n", []string{"p"})
	v.Rename("a", "z")
	v.Member("b").Member("c").Items()[2].Set("d", "now")
	v.Default("z", 5)
	v.Ensure("o").Set("in", 1.5)
	want := `{"b":{"c":[1,"x\"y\\",{"d":"now"}]},"kéy":true,"s":"","n":["p"],"z":1,"o":{"in":1.5}}`
	if got := string(v.AppendTo(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if v.At("b", "c").Items()[1].String() != `x"y\` || !v.Member("KÉY").Bool() || v.Member("Z").Int() != 1 {
		t.Error("reads are wrong")
	}
	if !v.Member("s").Empty() || v.Member("n").Empty() || !v.Member("none").Empty() {
		t.Error("Empty is wrong")
	}
}

func TestMissingIsHarmless(t *testing.T) {
	var v *Value
	v.Set("a", 1)
	v.Delete("a")
	v.Member("x").Ensure("y").Rename("a", "b")
	if v.At("a", "b").String() != "" || v.Items() != nil || v.Kind() != Missing || string(v.AppendTo(nil)) != "null" {
		t.Error("a missing value must read as nothing")
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(`{"a":[1,2,{"b":"\\\""}],"c":{}}`))
	f.Add([]byte(`[[],{},"",0,-1e5,null]`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		v, err := Parse(append([]byte(nil), doc...))
		if err != nil {
			return
		}
		walk(v)
		out := v.AppendTo(nil)
		var a, b any
		if json.Unmarshal(doc, &a) != nil {
			return
		}
		if err := json.Unmarshal(out, &b); err != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("%q became %q (%v)", doc, out, err)
		}
	})
}

func walk(v *Value) {
	for _, it := range v.Items() {
		walk(it)
	}
	_ = v.String()
	_ = v.Float()
}

func BenchmarkTwoEdits(b *testing.B) {
	in := map[string]any{}
	for _, k := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		in[k] = map[string]any{"list": make([]int, 40), "text": "the quick brown fox jumps over the lazy dog", "more": map[string]string{"x": "y"}}
	}
	doc, _ := json.Marshal(in)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		v := parseValid(doc)
		v.Member("c").Delete("text")
		v.Set("new", "x")
		_ = v.AppendTo(make([]byte, 0, len(doc)+100))
	}
}
