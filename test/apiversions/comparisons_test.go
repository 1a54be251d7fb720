package apiversions

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// comparison finds code that asks for a version of the API.
var comparison = regexp.MustCompile(`\b(versions?\.(LessThan|GreaterThan|Equal)|route\.(ParseVersion|MustVersion|Version)\b|(LessThan|GreaterThan)(OrEqualTo)?\(.*"1\.\d+")`)

// mayCompare are the places that know versions: the ladder, the routes' bounds, and the server that reads the prefix.
var mayCompare = []string{"internal/server/engineapi/version/", "internal/server/route/", "internal/server/engineapi/server.go"}

// TestVersionsAreComparedInOnePlace: no version comparison stands outside the ladder and the route tables.
func TestVersionsAreComparedInOnePlace(t *testing.T) {
	for _, dir := range []string{"internal", "cmd"} {
		root := filepath.Join("..", "..", dir)
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			name := filepath.ToSlash(strings.TrimPrefix(path, filepath.Join("..", "..")+string(filepath.Separator)))
			for _, ok := range mayCompare {
				if strings.HasPrefix(name, ok) {
					return nil
				}
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for i, line := range bytes.Split(text, []byte("\n")) {
				if comparison.Match(line) {
					t.Errorf("%s:%d compares versions: %s", name, i+1, bytes.TrimSpace(line))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
