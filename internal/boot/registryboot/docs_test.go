package registryboot_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"longshore/internal/boot/registryboot"
	"longshore/internal/boot/registryboot/registrytest"
)

// TestDocumentation: "registry verify" has nothing to say against any configuration of docs/registry.md.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../../docs/registry.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```(json|yaml)\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) < 5 {
		t.Fatalf("%d configurations", len(blocks))
	}
	for _, b := range blocks {
		doc := b[2]
		if !bytes.Contains(doc, []byte("rootDirectory")) {
			doc = append([]byte(`{"storage": {"rootDirectory": "/r"}, `), doc[1:]...)
		}
		dir := t.TempDir()
		doc = bytes.ReplaceAll(doc, []byte("/etc/registry"), []byte(dir))
		registrytest.Write(t, filepath.Join(dir, "session-keys.json"), `{"hashKey": "0123456789abcdef0123456789abcdef"}`)
		path := filepath.Join(dir, "config."+string(b[1]))
		if err := os.WriteFile(path, doc, 0o600); err != nil {
			t.Fatal(err)
		}
		if warnings, err := registryboot.Verify(path); err != nil || len(warnings) > 0 {
			t.Errorf("%v %v\n%s", err, warnings, doc)
		}
	}
}
