package arch

import (
	"go/ast"
	"strings"
	"testing"
)

// Budgets on the tail: medians of good code are alike, tails differ.
const (
	maxFunction  = 80   // lines
	maxFile      = 500  // lines
	maxPackage   = 3000 // lines without tests
	maxFields    = 15   // wire types and configurations apart
	maxMethods   = 7    // of an interface
	maxArguments = 5    // context included
	maxImports   = 12   // of our own packages, boot apart
)

// exceptions: "what path[:name]" with the reason. Nothing else is let through.
var exceptions = map[string]string{
	"package internal/server/engineapi/version": "one file per API version: the ladder is long by nature, its functions are not",

	"arguments internal/driver/buildkit/frontend.go:Solve": "BuildKit's frontend.Frontend",
	"arguments internal/driver/buildkit/steps.go:Run":      "BuildKit's executor.Executor",
}

func excepted(kind, what string) bool {
	_, ok := exceptions[kind+" "+what]
	return ok
}

func TestFunctionsAndFiles(t *testing.T) {
	packages := map[string]int{}
	for _, s := range sources(t) {
		lines := s.fset.Position(s.file.End()).Line
		packages[s.pkg] += lines
		generated := ast.IsGenerated(s.file)
		if lines > maxFile && !generated && !excepted("file", s.path) {
			t.Errorf("%s has %d lines, at most %d", s.path, lines, maxFile)
		}
		if generated {
			packages[s.pkg] -= lines
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := s.path + ":" + f.Name.Name
			n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			if n > maxFunction && !excepted("function", name) {
				t.Errorf("%s has %d lines, at most %d", name, n, maxFunction)
			}
			if a := f.Type.Params.NumFields(); a > maxArguments && !excepted("arguments", name) {
				t.Errorf("%s takes %d arguments, at most %d", name, a, maxArguments)
			}
			if f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: no init functions", name)
			}
		}
	}
	for pkg, n := range packages {
		if n > maxPackage && !excepted("package", pkg) {
			t.Errorf("package %s has %d lines, at most %d", pkg, n, maxPackage)
		}
	}
}

func TestTypes(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			ts, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			name := s.path + ":" + ts.Name.Name
			switch typ := ts.Type.(type) {
			case *ast.InterfaceType:
				if c := typ.Methods.NumFields(); c > maxMethods && !excepted("interface", name) {
					t.Errorf("interface %s has %d methods, at most %d", name, c, maxMethods)
				}
			case *ast.StructType:
				if c := typ.Fields.NumFields(); c > maxFields && !isWire(ts.Name.Name, typ) && !excepted("struct", name) {
					t.Errorf("struct %s has %d fields, at most %d", name, c, maxFields)
				}
			}
			return true
		})
	}
}

// isWire: configurations, options, records and types with JSON or YAML tags are wire types.
func isWire(name string, s *ast.StructType) bool {
	for _, suffix := range []string{"Config", "Options", "Deps", "Launch", "Request", "Input", "Record"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	for _, f := range s.Fields.List {
		if f.Tag != nil && (strings.Contains(f.Tag.Value, "json:") || strings.Contains(f.Tag.Value, "yaml:")) {
			return true
		}
	}
	return false
}

func TestOwnImports(t *testing.T) {
	imports := map[string]map[string]bool{}
	for _, s := range sources(t) {
		if strings.HasPrefix(s.pkg, "internal/boot") || strings.HasPrefix(s.pkg, "cmd/") {
			continue
		}
		for _, imp := range s.imports {
			if strings.HasPrefix(imp, module+"/") {
				if imports[s.pkg] == nil {
					imports[s.pkg] = map[string]bool{}
				}
				imports[s.pkg][imp] = true
			}
		}
	}
	for pkg, set := range imports {
		if len(set) > maxImports && !excepted("imports", pkg) {
			t.Errorf("package %s imports %d of our packages, at most %d", pkg, len(set), maxImports)
		}
	}
}

func TestNothingLeftBehind(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "context" && sel.Sel.Name == "TODO" {
				t.Errorf("%s uses context.TODO", s.fset.Position(n.Pos()))
			}
			return true
		})
		for _, g := range s.file.Comments {
			for _, c := range g.List {
				if strings.Contains(c.Text, "TODO") || strings.Contains(c.Text, "FIXME") || (strings.Contains(c.Text, "nolint") && !strings.Contains(c.Text, "//nolint:")) {
					t.Errorf("%s: %s", s.fset.Position(c.Pos()), c.Text)
				}
			}
		}
	}
}

// TestVersionsStayOnTheLadder counts comparisons of API versions outside the ladder and the route tables.
func TestVersionsStayOnTheLadder(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasPrefix(s.pkg, "internal/server/engineapi/version") || s.pkg == "internal/server/route" || s.path == "internal/server/engineapi/server.go" {
			continue
		}
		for _, imp := range s.imports {
			if strings.HasSuffix(imp, "/api/types/versions") {
				t.Errorf("%s compares API versions: that belongs to the ladder", s.path)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && (id.Name == "MustVersion" || id.Name == "ParseVersion") {
				t.Errorf("%s handles an API version: that belongs to the ladder", s.fset.Position(n.Pos()))
			}
			return true
		})
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	has := map[string]bool{}
	for _, s := range sources(t) {
		has[s.pkg] = has[s.pkg] || s.file.Doc != nil
	}
	for pkg, ok := range has {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}
