// Package arch tests the structure of the house: who may import whom, which third-party modules a layer may use, and
// how long things may get.
package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "longshore"

// layers from the bottom up; a package may import its own layer's and lower ones, with the sibling rule on top.
var layers = []string{"base", "core", "driver", "service", "server", "boot"}

// modules lists the third-party modules of each layer. Lower layers' modules are not inherited: each is named on purpose.
var modules = map[string][]string{
	"base": {"golang.org/x/sys"},
	"core": {
		"github.com/containerd/errdefs", "github.com/distribution/reference", "github.com/docker/go-units", "github.com/moby/moby/api", "github.com/moby/docker-image-spec",
		"github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec", "github.com/opencontainers/runtime-spec",
		"github.com/moby/sys/signal", "golang.org/x/sys",
		"github.com/moby/buildkit/client", "github.com/tonistiigi/fsutil", // core/build: the builder's contract
	},
	"driver":  nil, // drivers are where third-party code belongs: any module of docs/dependencies.md
	"service": nil, // filled below
	"server": {
		"github.com/containerd/errdefs", "github.com/containerd/platforms", "github.com/distribution/reference", "github.com/docker/go-units", "github.com/gorilla/websocket", "github.com/gorilla/securecookie",
		"github.com/moby/moby/api", "github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec", "github.com/prometheus/client_golang",
		"golang.org/x/time", "github.com/moby/docker-image-spec",
	},
	"boot": nil,
}

type source struct {
	path    string // slash path from the module's root
	pkg     string // its directory
	imports []string
	file    *ast.File
	fset    *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	for _, top := range []string{"../../internal", "../../cmd"} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "testdata") {
				return fs.SkipDir
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			rel := filepath.ToSlash(strings.TrimPrefix(path, "../../"))
			s := source{path: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), file: f, fset: fset}
			for _, i := range f.Imports {
				s.imports = append(s.imports, strings.Trim(i.Path.Value, `"`))
			}
			out = append(out, s)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// place splits "internal/service/engine/images/x" into layer "service" and sibling "engine/images". Below
// service/engine and server/engineapi each directory is a sibling of its own; elsewhere the first one counts.
func place(pkg string) (layer, sibling string) {
	parts := strings.Split(strings.TrimPrefix(pkg, "internal/"), "/")
	if len(parts) == 1 {
		return parts[0], ""
	}
	n := 2
	if parts[0] == "service" && parts[1] == "engine" {
		n = 3
	}
	return parts[0], strings.Join(parts[1:min(n, len(parts))], "/")
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.pkg, "internal/") || strings.HasPrefix(s.pkg, "internal/arch") {
			continue
		}
		layer, sibling := place(s.pkg)
		level := slices.Index(layers, layer)
		if level < 0 {
			t.Errorf("%s: unknown layer %q", s.path, layer)
			continue
		}
		for _, imp := range s.imports {
			if !strings.HasPrefix(imp, module+"/internal/") {
				continue
			}
			l, sib := place(strings.TrimPrefix(imp, module+"/"))
			switch to := slices.Index(layers, l); {
			case to > level:
				t.Errorf("%s imports %s: %s is above %s", s.path, imp, l, layer)
			case l == layer && sib != sibling && (layer == "driver" || layer == "service"):
				t.Errorf("%s imports its sibling %s", s.path, imp)
			}
		}
	}
}

func TestThirdPartyModules(t *testing.T) {
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.pkg, "internal/") {
			continue
		}
		layer, _ := place(s.pkg)
		allowed, listed := modules[layer]
		if !listed || allowed == nil {
			continue
		}
		for _, imp := range s.imports {
			if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") {
				continue
			}
			if !slices.ContainsFunc(allowed, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") }) {
				t.Errorf("%s imports %s, which layer %q must not use", s.path, imp, layer)
			}
		}
	}
}

func TestShimStaysSmall(t *testing.T) {
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.pkg, "cmd/longshore-shim") && !strings.HasPrefix(s.pkg, "internal/base/") {
			continue
		}
		for _, imp := range s.imports {
			first, _, _ := strings.Cut(imp, "/")
			outside := strings.Contains(first, ".") && !strings.HasPrefix(imp, "golang.org/x/sys/unix")
			heavy := strings.HasPrefix(s.pkg, "cmd/") && (imp == "net/http" || imp == "encoding/json" || strings.HasPrefix(imp, "net/"))
			if outside || heavy {
				t.Errorf("%s imports %s: the shim must stay a few megabytes", s.path, imp)
			}
		}
	}
}
