package registryboot_test

import (
	"os"
	"regexp"
	"testing"

	"longshore/internal/boot/registryconfig"
)

// TestDocumentation: every configuration of docs/registry.md is good.
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
		if !regexp.MustCompile("rootDirectory").Match(doc) {
			doc = append([]byte(`{"storage": {"rootDirectory": "/r"}, `), doc[1:]...)
		}
		if _, warnings, err := registryconfig.Parse("docs."+string(b[1]), doc); err != nil || len(warnings) > 0 {
			t.Errorf("%v %v\n%s", err, warnings, doc)
		}
	}
}
