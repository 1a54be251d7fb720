package dockerfile

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

func read(text string, o Options) (*Plan, error) {
	o.Platform, o.Host = amd64, amd64
	return Read([]byte(text), o)
}

// show is a plan in short: "stage<parent: kindNumber text" per step.
func show(p *Plan) string {
	var b strings.Builder
	for _, a := range p.Arguments {
		fmt.Fprintf(&b, "arg %s\n", a.Text)
	}
	for _, s := range p.Stages {
		fmt.Fprintf(&b, "%s parent %d of %d\n", s.Name, s.Parent, s.Count)
		for _, x := range s.Steps {
			fmt.Fprintf(&b, "  %d line %d #%d %s\n", x.Kind, x.Line, x.Number, x.Text)
		}
	}
	for _, i := range p.Images {
		fmt.Fprintf(&b, "image %s %s for %d.%d\n", i.Ref, platformText(i.Platform), i.Stage, i.Step)
	}
	return b.String()
}

func TestRead(t *testing.T) {
	one := "v1"
	for name, c := range map[string]struct {
		text string
		o    Options
		want string
	}{
		"one stage": {"from busybox\nRUN a \\\n  b\nENV x=y\nWORKDIR /w\nUSER 1\nCOPY a b\n", Options{}, `stage-0 parent -1 of 4
  2 line 1 #1 from busybox
  3 line 2 #2 RUN a   b
  0 line 4 #0 ENV x=y
  4 line 5 #3 WORKDIR /w
  0 line 6 #0 USER 1
  4 line 7 #4 COPY a b
image busybox linux/amd64 for 0.0
`},
		"arguments and unneeded stages": {`ARG V=latest
ARG FULL=base:$V
FROM --platform=$BUILDPLATFORM $FULL AS One
FROM busybox AS unneeded
RUN false
FROM scratch
COPY --from=one / /
COPY --from=0 / /
RUN --mount=from=tools,target=/t --mount=type=cache,target=/c cmd
`, Options{Args: map[string]*string{"V": &one}}, `arg ARG V=latest
arg ARG FULL=base:$V
one parent -1 of 1
  2 line 3 #1 FROM --platform=$BUILDPLATFORM $FULL AS One
stage-2 parent -1 of 3
  2 line 6 #0 FROM scratch
  4 line 7 #1 COPY --from=one / /
  4 line 8 #2 COPY --from=0 / /
  3 line 9 #3 RUN --mount=from=tools,target=/t --mount=type=cache,target=/c cmd
image base:v1 linux/amd64 for 0.0
image tools linux/amd64 for 1.3
`},
		"target by name, labels": {"FROM a AS x\nONBUILD RUN y\nFROM X AS y\nADD http://h/f /\nFROM c\n", Options{Target: "Y", Labels: map[string]string{"k": "v"}}, `x parent -1 of 1
  2 line 1 #1 FROM a AS x
  0 line 2 #0 ONBUILD RUN y
y parent 0 of 1
  2 line 3 #0 FROM X AS y
  4 line 4 #1 ADD http://h/f /
  0 line 0 #0 LABEL k=v
image a linux/amd64 for 0.0
`},
		"heredoc": {"FROM a\nRUN <<EOF\nx\nEOF\nCOPY <<E1 <<E2 /\n1\nE1\n2\nE2\n", Options{}, `stage-0 parent -1 of 3
  2 line 1 #1 FROM a
  3 line 2 #2 RUN <<EOF
  4 line 5 #3 COPY <<E1 <<E2 /
image a linux/amd64 for 0.0
`},
		"escape": {"# escape=`\nFROM a\nRUN x `\n y\n", Options{}, `stage-0 parent -1 of 2
  2 line 2 #1 FROM a
  3 line 3 #2 RUN x  y
image a linux/amd64 for 0.0
`},
	} {
		p, err := read(c.text, c.o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := show(p); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", name, got, c.want)
		}
	}
}

func TestPlanMarks(t *testing.T) {
	v := "x"
	p, err := read("# syntax=docker/dockerfile:1\nARG A\nFROM a\nARG B\nFROM b\n", Options{Target: "0", Args: map[string]*string{"A": &v, "B": nil, "Z": &v, "C": &v, "http_proxy": &v}})
	if err != nil {
		t.Fatal(err)
	}
	if p.End != 5 || p.Single || p.Total() != 3 || !reflect.DeepEqual(p.Unused, []string{"C", "Z"}) {
		t.Errorf("%+v", p)
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "the Dockerfile (Dockerfile) cannot be empty",
		"  \n\n":                                 "file with no instructions",
		"# nothing\n":                            "dockerfile parse error on line 1, column 1: file with no instructions",
		"FROM a\n  FOO bar":                      "dockerfile parse error on line 2, column 3: unknown instruction: FOO",
		"FROM a\nRUN --nope x":                   "dockerfile parse error on line 2, column 5: unknown flag: --nope",
		"FROM a\nHEALTHCHECK foo":                `dockerfile parse error on line 2, column 1: Unknown type "FOO" in HEALTHCHECK (try CMD)`,
		"FROM a\nHEALTHCHECK --interval=x CMD y": "dockerfile parse error on line 2, column",
		"FROM a\n\nCOPY a":                       "dockerfile parse error on line 3, column 1: COPY requires at least two arguments",
		"FROM a b":                               "dockerfile parse error on line 1, column 1: FROM requires either one or three arguments",
		"RUN x":                                  "dockerfile parse error on line 1, column 1: no build stage in current context",
		"ARG a":                                  "no build stage in current context",
		"FROM $NONE":                             "dockerfile parse error on line 1, column 6: base name ($NONE) should not be blank",
		"FROM --platform=a/b/c/d x":              "dockerfile parse error on line 1",
		"FROM a\nRUN <<E\nx":                     "dockerfile parse error on line 2, column",
		"FROM a\nENV x":                          "dockerfile parse error on line 2",
		"FROM a\nRUN " + strings.Repeat("x", 1<<17): "dockerfile line greater than max allowed size",
	} {
		_, err := read(text, Options{})
		if err == nil || !strings.Contains(err.Error(), want) || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
	}
	if _, err := read("FROM a", Options{Target: "zz"}); err == nil || err.Error() != `target stage "zz" could not be found` {
		t.Error(err)
	}
}

// FuzzRead feeds anything: no panic, and a plan that makes sense.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"FROM a\nRUN x", "ARG X\nFROM $X AS y\nCOPY --from=y a b", "# syntax=x\nFROM scratch\nRUN <<E\n\nE\n", "FROM a\nONBUILD ADD x y", "FROM a AS 1\nFROM 1"} {
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, text, target string) {
		p, err := read(text, Options{Target: target})
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("class of %v", err)
			}
			return
		}
		if len(p.Stages) == 0 || p.Total() < 1 {
			t.Fatal("no stages")
		}
		for i, s := range p.Stages {
			if s.Parent >= i || len(s.Steps) == 0 || s.Steps[0].Kind != From {
				t.Fatalf("stage %d: %+v", i, s)
			}
		}
	})
}

func TestCut(t *testing.T) {
	text := "# syntax=docker/dockerfile:1\nFROM a AS x\nRUN y\nFROM b\n"
	for target, want := range map[string]string{"x": text[:len(text)-7], "": text} {
		p, err := read(text, Options{Target: target})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(p.Cut([]byte(text))); got != want {
			t.Errorf("%q: %q", target, got)
		}
	}
}
