package auditlog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for i := range 3 { // three runs of a daemon
		l, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := l.Append(Entry{Token: "t", Operation: "containers/list", Allowed: true, Error: strings.Repeat("x", i*maxLine)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := Verify(bytes.NewReader(text)); line != 0 || err != nil {
		t.Errorf("line %d, %v", line, err)
	}
	lines := bytes.SplitAfter(text, []byte{'\n'})
	changed := bytes.Join([][]byte{lines[0], bytes.Replace(lines[1], []byte("list"), []byte("stop"), 1), lines[2]}, nil)
	if line, _ := Verify(bytes.NewReader(changed)); line != 3 {
		t.Errorf("a changed line: %d", line)
	}
	missing := bytes.Join([][]byte{lines[0], lines[2]}, nil)
	if line, _ := Verify(bytes.NewReader(missing)); line != 2 {
		t.Errorf("a missing line: %d", line)
	}
	// a torn last line stays visible and does not stop the daemon
	if err := os.WriteFile(path, text[:len(text)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Append(Entry{Token: "t"}); err != nil {
		t.Fatal(err)
	}
	text, _ = os.ReadFile(path)
	if line, _ := Verify(bytes.NewReader(text)); line != len(lines)-1 {
		t.Errorf("a torn line: %d", line)
	}
}
