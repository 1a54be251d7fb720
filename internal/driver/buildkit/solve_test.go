package buildkit_test

import (
	"strings"
	"testing"
	"time"

	"longshore/internal/core/build"
)

func TestBuildOnLocalBase(t *testing.T) {
	r := newRig(t)
	req := build.Request{
		Source: build.Source{Context: files(t, map[string]string{
			"Dockerfile": dockerfile("FROM busybox", "COPY a.txt /a.txt", "RUN cat /a.txt && echo made > /b.txt", `CMD ["cat","/b.txt"]`),
			"a.txt":      "from the context\n",
		})},
		Output: build.Output{Names: []string{"first:1"}},
	}
	start := time.Now()
	out := r.solve(req)
	t.Logf("cold: %v %v", time.Since(start), out.names)
	if out.err != nil {
		t.Fatalf("build: %v\n%s", out.err, out.log)
	}
	if !strings.Contains(out.log, "from the context") {
		t.Errorf("log: %q", out.log)
	}
	img, err := r.images.Resolve(t.Context(), "first:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.ID != out.ID {
		t.Errorf("image is %s, the build said %s", img.ID, out.ID)
	}
	if !r.store.Unpacked(t.Context(), img.ChainID) {
		t.Error("the image is not unpacked")
	}
	start = time.Now()
	again := r.solve(req)
	t.Logf("cached: %v %v", time.Since(start), again.cached)
	if again.err != nil || again.ID != out.ID {
		t.Errorf("second build: %v %s", again.err, again.ID)
	}
}
