package buildkit_test

import (
	"fmt"
	"testing"
)

// BenchmarkCached builds ten steps that are all in the cache.
func BenchmarkCached(b *testing.B) {
	r := newRig(b)
	lines := []string{"FROM busybox"}
	for i := range 9 {
		lines = append(lines, fmt.Sprintf("RUN echo %d > /f%d", i, i))
	}
	req := plain(b, dockerfile(lines...))
	req.Output.Names = []string{"bench"}
	if out := r.solve(req); out.err != nil {
		b.Fatal(out.err)
	}
	for b.Loop() {
		if out := r.solve(req); out.err != nil {
			b.Fatal(out.err)
		}
	}
}

// BenchmarkCold builds ten steps of which none is in the cache.
func BenchmarkCold(b *testing.B) {
	r := newRig(b)
	n := 0
	for b.Loop() {
		n++
		lines := []string{"FROM busybox"}
		for i := range 9 {
			lines = append(lines, fmt.Sprintf("RUN echo %d %d > /f%d", n, i, i))
		}
		req := plain(b, dockerfile(lines...))
		if out := r.solve(req); out.err != nil {
			b.Fatal(out.err)
		}
	}
}
