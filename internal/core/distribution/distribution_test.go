package distribution_test

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
)

// The specification's own expressions judge the parsers.
var (
	nameGrammar = regexp.MustCompile(`\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\z`)
	tagGrammar  = regexp.MustCompile(`\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\z`)
)

func checkName(t *testing.T, s string) {
	t.Helper()
	_, err := distribution.ParseRepoName(s)
	if want := nameGrammar.MatchString(s) && len(s) <= distribution.MaxRepoName; (err == nil) != want {
		t.Errorf("name %q: %v, want ok=%v", s, err, want)
	}
	if err != nil && !errdefs.IsInvalidArgument(err) {
		t.Errorf("class of %v", err)
	}
}

func checkReference(t *testing.T, s string) {
	t.Helper()
	r, err := distribution.ParseReference(s)
	if err != nil {
		if tagGrammar.MatchString(s) {
			t.Errorf("tag %q: %v", s, err)
		}
		return
	}
	if r.String() != s || (r.Tag == "") == (r.Digest == "") {
		t.Errorf("%q became %+v", s, r)
	}
	if r.Tag != "" && !tagGrammar.MatchString(s) || r.Digest != "" && r.Digest.Validate() != nil {
		t.Errorf("%q was accepted", s)
	}
}

var names = []string{"a", "a/b", "a.b", "a__b", "a_b", "a---b", "0/1", "a..b", "a___b", "a._b", "-a", "a-", "a/", "/a", "a//b", "A", "a b", "",
	"../a", "a/..", "é", "a\x00", "a\n", strings.Repeat("a", 255), strings.Repeat("a", 256), strings.Repeat("a/", 100) + "a", "a_-b", "a-_b"}

func TestNames(t *testing.T) {
	for _, s := range names {
		checkName(t, s)
	}
}

var references = []string{"latest", "_x", "-x", ".x", "v1.0-rc_1", strings.Repeat("a", 128), strings.Repeat("a", 129), "", "a/b", "a b", "é",
	digest.FromString("").String(), digest.SHA512.FromString("").String(), "sha256:", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", ":", "sha256-abc"}

func TestReferences(t *testing.T) {
	for _, s := range references {
		checkReference(t, s)
	}
}

func TestReferrersTag(t *testing.T) {
	for d, want := range map[digest.Digest]distribution.Tag{
		digest.Digest("sha256:" + strings.Repeat("a", 64)):  distribution.Tag("sha256-" + strings.Repeat("a", 64)),
		digest.Digest("sha512:" + strings.Repeat("a", 128)): distribution.Tag("sha512-" + strings.Repeat("a", 64)),
		"test+algorithm+using+algorithm+separators+and+lots+of+characters+to+excercise+overall+truncation:alsoSome=InTheEncodedSectionToShowHyphenReplacementAndLotsAndLotsOfCharactersToExcerciseEncodedTruncation": "test-algorithm-using-algorithm-s-alsoSome-InTheEncodedSectionToShowHyphenReplacementAndLotsAndLot",
	} {
		if got := distribution.ReferrersTag(d); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
}

func TestRange(t *testing.T) {
	cases := []struct {
		header      string
		size        int64
		ok          bool
		first, last int64
		refused     bool
	}{
		{"bytes=0-0", 10, true, 0, 0, false},
		{"bytes=2-", 10, true, 2, 9, false},
		{"bytes=2-100", 10, true, 2, 9, false},
		{"bytes=-3", 10, true, 7, 9, false},
		{"bytes=-30", 10, true, 0, 9, false},
		{"bytes=10-", 10, false, 0, 0, true},
		{"bytes=-0", 10, false, 0, 0, true},
		{"bytes=0-", 0, false, 0, 0, true},
		{"bytes=5-4", 10, false, 0, 0, true},
		{"bytes=0-1,3-4", 10, false, 0, 0, false},
		{"items=0-1", 10, false, 0, 0, false},
		{"bytes=a-b", 10, false, 0, 0, false},
		{"bytes=--1", 10, false, 0, 0, false},
		{"bytes=99999999999999999999-", 10, false, 0, 0, false},
	}
	for _, c := range cases {
		r, ok, err := distribution.ParseRange(c.header, c.size)
		if ok != c.ok || errors.Is(err, distribution.ErrRange) != c.refused || ok && (r.First != c.first || r.Last != c.last) {
			t.Errorf("%s of %d: %+v %v %v", c.header, c.size, r, ok, err)
		}
	}
}

func TestContentRange(t *testing.T) {
	for s, want := range map[string]distribution.ByteRange{
		"0-9": {First: 0, Last: 9}, "10-10": {First: 10, Last: 10}, "bytes 0-9/10": {First: 0, Last: 9}, "bytes=5-6": {First: 5, Last: 6}} {
		got, err := distribution.ParseContentRange(s)
		if err != nil || got != want {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-", "1", "9-0", "-1-5", "0-9/10", "a-b", "0-99999999999999999999", "0--1", " 0-1", "0-1 ", "+0-1"} {
		if got, err := distribution.ParseContentRange(s); err == nil {
			t.Errorf("%q became %v", s, got)
		}
	}
}

// TestClasses: what the server's table reads.
func TestClasses(t *testing.T) {
	for class, want := range map[error]int{
		distribution.ErrRange: http.StatusRequestedRangeNotSatisfiable, distribution.ErrTooLarge: http.StatusRequestEntityTooLarge,
		distribution.ErrMethod: http.StatusMethodNotAllowed, distribution.ErrMediaType: http.StatusUnsupportedMediaType,
	} {
		var s interface{ HTTPStatus() int }
		err := error(distribution.NewError(distribution.CodeUnknown, class, "x"))
		if !errors.As(err, &s) || s.HTTPStatus() != want {
			t.Errorf("%v", class)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range append(names, references...) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkName(t, s)
		checkReference(t, s)
	})
}

func FuzzRanges(f *testing.F) {
	for _, s := range []string{"bytes=0-9", "bytes=-5", "bytes=5-", "0-9", "bytes 0-9/10", "bytes=0-1,2-3"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		if size < 0 {
			return
		}
		if r, ok, err := distribution.ParseRange(s, size); ok && (err != nil || r.First < 0 || r.Last >= size || r.Size() <= 0) {
			t.Fatalf("%q of %d: %+v %v", s, size, r, err)
		}
		if r, err := distribution.ParseContentRange(s); err == nil && (r.First < 0 || r.Size() <= 0) {
			t.Fatalf("%q: %+v", s, r)
		}
	})
}
