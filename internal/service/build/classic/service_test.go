package classic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/proto"

	"longshore/internal/core/build"
	"longshore/internal/core/fault"
	"longshore/internal/core/image"
	"longshore/internal/driver/buildsource"
	"longshore/internal/service/build/buildcontext"
)

// builder answers every build with the same and keeps what it was asked.
type builder struct {
	asked  build.Request
	status []*client.SolveStatus
	err    error
}

func (b *builder) Build(ctx context.Context, r build.Request, progress chan<- *client.SolveStatus) (build.Result, error) {
	defer close(progress)
	b.asked = r
	for _, s := range b.status {
		select {
		case progress <- s:
		case <-ctx.Done():
			return build.Result{}, ctx.Err()
		}
	}
	return build.Result{ID: digest.FromString("image")}, b.err
}

// store has the images that were pulled.
type store struct {
	have   map[string]bool
	pulled []string
}

func (s *store) Resolve(_ context.Context, ref string, _ *ocispec.Platform) (image.Image, error) {
	if !s.have[ref] {
		return image.Image{}, fault.NotFound("No such image: %s", ref)
	}
	return image.Image{ID: digest.FromString(ref)}, nil
}

func (s *store) Pull(_ context.Context, ref reference.Named, o PullOptions, emit func(any) error) error {
	user := ""
	if o.Auth != nil {
		user = o.Auth.Username
	}
	s.pulled = append(s.pulled, ref.String()+" as "+user)
	if strings.Contains(ref.String(), "none") {
		return fault.NotFound("manifest unknown")
	}
	s.have[reference.FamiliarName(ref)] = true
	return emit(map[string]string{"status": "Pulling " + reference.FamiliarString(ref)})
}

func service(t *testing.T, b *builder, images *store) *Service {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners of unpacked files")
	}
	scratch, err := buildsource.OpenScratch(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	remotes := buildsource.NewRemotes(buildsource.Config{})
	t.Cleanup(func() { _ = remotes.Close() })
	return New(Deps{Builder: b, Images: images, Intake: buildcontext.New(buildcontext.Config{}, scratch, remotes)})
}

func collect(out *[]string) Emit {
	return func(v any) error {
		doc, err := json.Marshal(v)
		*out = append(*out, string(doc))
		return err
	}
}

func TestBuildBringsBases(t *testing.T) {
	b, images := &builder{}, &store{have: map[string]bool{"here": true}}
	s := service(t, b, images)
	var out []string
	auth := map[string]registry.AuthConfig{"https://index.docker.io/v1/": {Username: "hub"}, "http://reg:5000/v2/": {Username: "own"}}
	err := s.Build(t.Context(), Request{
		Build:  build.Request{Auth: auth, Target: "last", Output: build.Output{Names: []string{"a", "a:latest", "", "b:1"}}, Cache: build.Cache{}},
		Source: buildcontext.Source{Body: strings.NewReader("# syntax=x/y\nFROM here\nFROM far\nCOPY --from=reg:5000/x/y /a /b\nFROM here AS last\nCOPY --from=1 /b /\nFROM none\n")},
	}, collect(&out))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(images.pulled, ", "); got != "docker.io/library/far:latest as hub, reg:5000/x/y:latest as own" {
		t.Error(got)
	}
	all := strings.Join(out, "\n")
	for _, want := range []string{`{"status":"Pulling far:latest"}`, `Step 3/4 : FROM here AS last`, `Successfully tagged a:latest\n`, `Successfully tagged b:1\n`} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is missing in\n%s", want, all)
		}
	}
	r := b.asked
	if r.Target != "" || r.Attrs["cmdline"] == "" || r.Source.Key == "" || fmt.Sprint(r.Output.Names) != "[docker.io/library/a:latest docker.io/library/b:1]" || r.Auth["docker.io"].Username != "hub" {
		t.Errorf("%+v", r)
	}
}

func TestBuildFails(t *testing.T) {
	failed := &build.StepError{Line: 2, ExitCode: 9, Command: []string{"/bin/sh", "-c", "x"}, Err: errors.New("exit code: 9")}
	for name, c := range map[string]struct {
		err  error
		text string
		want string
		code int
	}{
		"step":   {failed, "FROM scratch\nRUN x", "The command '/bin/sh -c x' returned a non-zero code: 9", 9},
		"file":   {&build.StepError{Line: 2, Err: errors.New(`lazy: "/f": not found`)}, "FROM scratch\nADD f /", "ADD failed: file not found in build context or excluded by .dockerignore: stat f: file does not exist", 0},
		"copy":   {&build.StepError{Line: 2, Err: errors.New("why")}, "FROM scratch\ncopy f /", "COPY failed: why", 0},
		"other":  {fault.Invalid("no"), "FROM scratch", "no", 0},
		"image":  {nil, "FROM none", "manifest unknown", 0},
		"syntax": {nil, "NOPE", "dockerfile parse error on line 1, column 1", 0},
	} {
		s := service(t, &builder{err: c.err}, &store{have: map[string]bool{}})
		for _, quiet := range []bool{false, true} {
			var out []string
			err := s.Build(t.Context(), Request{Quiet: quiet, Source: buildcontext.Source{Body: strings.NewReader(c.text)}}, collect(&out))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
			var e *Error
			if errors.As(err, &e) && e.ExitCode() != c.code {
				t.Errorf("%s: code %d", name, e.ExitCode())
			}
		}
	}
}

// TestClientGoes ends a build whose client does not read.
func TestClientGoes(t *testing.T) {
	name := "[1/1] COPY a /"
	v := &client.Vertex{Digest: digest.FromString(name), Name: name}
	b := &builder{}
	for range 1000 {
		b.status = append(b.status, &client.SolveStatus{Vertexes: []*client.Vertex{v}, Logs: []*client.VertexLog{{Vertex: v.Digest, Stream: 1, Data: []byte("x")}}})
	}
	s := service(t, b, &store{})
	gone := errors.New("gone")
	n := 0
	err := s.Build(t.Context(), Request{Source: buildcontext.Source{Body: strings.NewReader("FROM scratch\nCOPY a /")}}, func(any) error {
		if n++; n > 6 {
			return gone
		}
		return nil
	})
	if !errors.Is(err, gone) {
		t.Error(err)
	}
}

func TestTrace(t *testing.T) {
	name := "[1/1] RUN x"
	b := &builder{status: []*client.SolveStatus{{Vertexes: []*client.Vertex{{Digest: digest.FromString(name), Name: name}}}}}
	s := service(t, b, &store{})
	var out []string
	if err := s.Trace(t.Context(), Request{Source: buildcontext.Source{Body: strings.NewReader("FROM scratch")}}, collect(&out)); err != nil {
		t.Fatal(err)
	}
	var record struct {
		ID  string
		Aux []byte
	}
	var status controlapi.StatusResponse
	if len(out) != 2 || json.Unmarshal([]byte(out[0]), &record) != nil || record.ID != "moby.buildkit.trace" || proto.Unmarshal(record.Aux, &status) != nil || status.Vertexes[0].Name != name {
		t.Errorf("%q", out)
	}
	if want := `{"id":"moby.image.id","aux":{"ID":"` + digest.FromString("image").String() + `"}}`; out[len(out)-1] != want {
		t.Errorf("%q", out)
	}
	if err := s.Trace(t.Context(), Request{Source: buildcontext.Source{Remote: "client-session"}}, collect(&out)); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	if err := s.Trace(t.Context(), Request{Build: build.Request{Session: "s"}, Source: buildcontext.Source{Remote: "client-session", Dockerfile: "df"}}, collect(&out)); err != nil || b.asked.Source.Remote != "client-session" || b.asked.Dockerfile != "df" {
		t.Error(err, b.asked)
	}
}

// TestUpload brings a build its context by another request.
func TestUpload(t *testing.T) {
	b := &builder{}
	s := service(t, b, &store{})
	var both sync.WaitGroup
	errs := make([]error, 2)
	both.Go(func() {
		errs[0] = s.Trace(t.Context(), Request{Build: build.Request{ID: "b1"}, Source: buildcontext.Source{Remote: "upload-request"}}, func(any) error { return nil })
	})
	both.Go(func() {
		errs[1] = s.Trace(t.Context(), Request{Build: build.Request{ID: "upload-request:b1"}, Source: buildcontext.Source{Body: strings.NewReader("FROM scratch")}}, func(any) error { return nil })
	})
	both.Wait()
	if err := errors.Join(errs...); err != nil || b.asked.Source.Dockerfile == nil {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Trace(short, Request{Build: build.Request{ID: "upload-request:b2"}}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestTags(t *testing.T) {
	for name, want := range map[string]string{"A": "must be lowercase", "a@sha256:" + strings.Repeat("0", 64): "build tag cannot contain a digest", "": "", "x:y": ""} {
		if _, err := tags([]string{name}); (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
