package jsontree

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
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
		early, err := Edit(json.RawMessage(doc), []string{"a", "b", "c"}, walk)
		if err != nil {
			t.Fatal(err)
		}
		var a, b, c any
		if json.Unmarshal(doc, &a) != nil {
			return
		}
		if err := json.Unmarshal(out, &b); err != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("%q became %q (%v)", doc, out, err)
		}
		if err := json.Unmarshal(early, &c); err != nil || !reflect.DeepEqual(a, c) {
			t.Fatalf("%q became %q (%v)", doc, early, err)
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

// TestMembersStayText: what stands together is copied as it is, what was changed, added or deleted is not, in any order
// of the calls.
func TestMembersStayText(t *testing.T) {
	big := strings.Repeat("y", 300)
	for _, c := range []struct {
		name, doc, want string
		edit            func(*Value)
	}{
		{"untouched", `{"a":1,"b":[1,2],"c":{"d":null}}`, `{"a":1,"b":[1,2],"c":{"d":null}}`, func(v *Value) { v.Len() }},
		{"read only", `{"a":"x","b":{"c":1}}`, `{"a":"x","b":{"c":1}}`, func(v *Value) { _ = v.Member("b").Kind(); _ = v.Member("a").String() }},
		{"first deleted", `{"a":1,"b":2,"c":3}`, `{"b":2,"c":3}`, func(v *Value) { v.Delete("a") }},
		{"middle deleted", `{"a":1,"b":2,"c":3}`, `{"a":1,"c":3}`, func(v *Value) { v.Delete("B") }},
		{"all deleted", `{"a":1,"b":2}`, `{}`, func(v *Value) { v.Delete("a", "b") }},
		{"deleted and set again", `{"a":1,"b":2}`, `{"b":2,"a":3}`, func(v *Value) { v.Delete("a"); v.Set("a", 3) }},
		{"set in place", `{"a":1,"b":2,"c":3}`, `{"a":1,"B":"n","c":3}`, func(v *Value) { v.Set("B", "n") }},
		{"set twice", `{}`, `{"a":2,"b":3}`, func(v *Value) { v.Set("a", 1); v.Set("b", 3); v.Set("a", 2) }},
		{"many added", `{"a":1}`, `{"a":1,"x":"` + big + `","y":"` + big + `","z":null}`, func(v *Value) { v.Set("x", big); v.Set("y", big); v.Default("z", nil) }},
		{"text of a grown buffer", `{}`, `{"x":"s","y":"` + big + `","z":"s"}`, func(v *Value) {
			v.Set("x", "s")
			x := v.Member("x").String()
			v.Set("y", big)
			v.Set("z", x)
		}},
		{"both spellings", `{"Id":"1"}`, `{"Id":"1","ID":"1"}`, func(v *Value) { v.Add("ID", v.Member("Id").String()) }},
		{"twice in the source", `{"a":1,"A":2,"b":3}`, `{"b":3}`, func(v *Value) { v.Delete("a") }},
		{"escapes", `{"a\"b":1,"\u00e9":2,"é\\":3}`, `{"a\"b":1,"é\\":3,"x<y":"<z>"}`, func(v *Value) { v.Delete("é"); v.Set("x<y", "<z>") }},
		{"white space", " {\n \"a\" : 1 ,\t\"b\" : { \"c\" : [ ] } } ", `{"a":1,"b":{"d":5}}`, func(v *Value) { v.Member("b").Delete("c"); v.Member("b").Set("d", 5) }},
		{"nothing for nil", `{}`, `{"a":null}`, func(v *Value) { v.Set("a", (*Value)(nil)) }},
		{"what cannot be encoded", `{}`, `{"a":null,"b":1}`, func(v *Value) { v.Set("a", func() {}); v.Set("b", 1) }},
		{"a value moved", `{"a":{"b":{"c":1}},"d":2}`, `{"a":{},"d":2,"e":{"c":1,"f":true}}`, func(v *Value) {
			b := v.At("a", "b")
			v.Member("a").Delete("b")
			v.Set("e", b)
			v.Member("e").Set("f", true)
		}},
		{"deleted while it is read", `{"a":1,"b":2,"c":3}`, `{"b":2,"x":0}`, func(v *Value) {
			for name, m := range v.Members() {
				if m.Int() != 2 {
					v.Delete(name)
					v.Set("x", 0)
				}
			}
		}},
	} {
		v, err := Parse([]byte(c.doc))
		if err != nil {
			t.Fatal(c.name, err)
		}
		c.edit(v)
		got := string(v.AppendTo(nil))
		if got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
		again, err := Edit(json.RawMessage(c.doc), []string{"a", "b", "e"}, c.edit)
		if err != nil || string(again) != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s, opened early:\ngot  %s (%v)\nwant %s", c.name, again, err, c.want)
		}
		var keys []string
		for k := range v.Members() {
			keys = append(keys, k)
		}
		if !slices.Equal(keys, v.Keys()) || len(v.Items()) != v.Len() || v.Len() != len(keys) {
			t.Errorf("%s: %q, %q, %d", c.name, keys, v.Keys(), v.Len())
		}
	}
}
