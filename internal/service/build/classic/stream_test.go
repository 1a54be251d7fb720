package classic

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/service/build/dockerfile"
)

var update = flag.Bool("update", false, "write golden files anew")

// A script is a Dockerfile, and below "---" a line for each thing that happens:
//
//	base STAGE ID TRIGGERS
//	pull IMAGE TEXT            progress of the pull of the plan's image
//	new NAME | INPUTS          a piece of work is announced
//	start NAME, done NAME, cached NAME, fail NAME
//	out NAME TEXT, err NAME TEXT
//	finish TAGS…, failed NAME LINE
type player struct {
	t      *testing.T
	plan   *dockerfile.Plan
	s      *Stream
	events int
}

func (p *player) play(event string) error {
	verb, rest, _ := strings.Cut(event, " ")
	name, text, _ := strings.Cut(rest, " | ")
	v := &client.Vertex{Digest: digest.FromString(name), Name: name, Inputs: []digest.Digest{"x"}}
	now := time.Now()
	switch verb {
	case "base":
		var stage, triggers int
		var id string
		if _, err := fmt.Sscan(rest, &stage, &id, &triggers); err != nil {
			p.t.Fatalf("%s: %v", event, err)
		}
		return p.s.Base(stage, id, triggers)
	case "pull":
		return p.s.Pulling(p.plan.Images[0], map[string]string{"status": text})
	case "new":
	case "source":
		v.Inputs, v.Started, v.Completed = nil, &now, &now
	case "start":
		v.Started = &now
	case "done":
		v.Started, v.Completed = &now, &now
	case "cached":
		v.Started, v.Completed, v.Cached = &now, &now, true
	case "fail":
		v.Started, v.Completed, v.Error = &now, &now, "exit code: 7"
	case "out", "err":
		stream := map[string]int{"out": 1, "err": 2}[verb]
		text = strings.NewReplacer(`\n`, "\n", `\xe4`, "\xe4", `\xb8\xad`, "\xb8\xad").Replace(text)
		return p.s.Status(&client.SolveStatus{Logs: []*client.VertexLog{{Vertex: v.Digest, Stream: stream, Data: []byte(text)}}})
	case "finish":
		return p.s.Finish(digest.FromString("image"), strings.Fields(rest))
	case "failed":
		return p.s.Fail(v.Digest, 0)
	case "failedline":
		return p.s.Fail("", len(rest))
	default:
		p.t.Fatalf("no such event: %s", event)
	}
	return p.s.Status(&client.SolveStatus{Vertexes: []*client.Vertex{v}})
}

// TestStreams plays the scripts in testdata and compares what a client reads.
func TestStreams(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.script")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".script"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			file, events, _ := strings.Cut(string(text), "---\n")
			host := ocispec.Platform{OS: "linux", Architecture: "amd64"}
			o := dockerfile.Options{Platform: host, Host: host}
			if strings.Contains(path, "labels") {
				o.Labels = map[string]string{"b": "2", "a": "1"}
				o.Args = map[string]*string{"UN": nil, "A": nil}
			}
			plan, err := dockerfile.Read([]byte(file), o)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			memory := &Memory{}
			rounds := 1
			if strings.Contains(path, "twice") {
				rounds = 2
			}
			for range rounds {
				n := 0
				p := &player{t: t, plan: plan}
				p.s = NewStream(plan, StreamOptions{Remove: !strings.Contains(path, "keep"), Memory: memory, NewID: func() string {
					n++
					return fmt.Sprintf("c%063d", n)
				}}, func(v any) error {
					doc, err := json.Marshal(v)
					fmt.Fprintf(&got, "%s\n", doc)
					return err
				})
				for _, e := range strings.Split(strings.TrimSpace(events), "\n") {
					fmt.Fprintf(&got, "# %s\n", e)
					if err := p.play(e); err != nil {
						t.Fatal(err)
					}
				}
			}
			golden := strings.TrimSuffix(path, ".script") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	for name, want := range map[string]label{
		"[1/3] FROM busybox":                                {"", 1, 3},
		"[build  2/12] RUN make":                            {"build", 2, 12},
		"[stage-1 2/3] COPY a b":                            {"stage-1", 2, 3},
		"[linux/arm64 2/3] RUN x":                           {"", 2, 3},
		"[linux/amd64->arm64 a.b 2/3] RUN x":                {"a.b", 2, 3},
		"[2/3] ONBUILD RUN x":                               {"", 2, 3},
		"[internal] load build context":                     {},
		"[4/3] RUN":                                         {},
		"[a 99999999999999999999/99999999999999999999] RUN": {},
		"exporting to image":                                {},
	} {
		got, ok := parseLabel(name)
		if ok != (want.number > 0) || got != want {
			t.Errorf("%q: %+v %v", name, got, ok)
		}
	}
}

func TestMemoryForgets(t *testing.T) {
	m := &Memory{}
	for i := range remembered * 2 {
		if m.seen(fmt.Sprint(i)) {
			t.Fatal(i, "was never there")
		}
	}
	if !m.seen(fmt.Sprint(remembered*2-1)) || m.seen("0") {
		t.Error("the oldest must go, the newest stay")
	}
	if n := len(m.now) + len(m.old); n > remembered {
		t.Error(n, "steps are kept")
	}
}
