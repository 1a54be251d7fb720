package ocispec

import (
	"io"
	"net"
	"net/http"
	"testing"

	"longshore/internal/boot/registryboot/registrytest"
)

// BenchmarkManifest compares a manifest GET with the same bytes from memory by net/http.
func BenchmarkManifest(b *testing.B) {
	r := start(b)
	body, d := r.push("v1", nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	memory := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })}
	go func() { _ = memory.Serve(l) }()
	b.Cleanup(func() { _ = memory.Close() })
	for name, url := range map[string]string{
		"memory": "http://" + l.Addr().String() + "/", "tag": r.URL("/v2/" + r.name + "/manifests/v1"),
		"digest": r.URL("/v2/" + r.name + "/manifests/" + d.String()),
	} {
		b.Run(name, func(b *testing.B) { get(b, r.Registry, url) })
	}
}

// BenchmarkBlob pulls a blob of 1 MB.
func BenchmarkBlob(b *testing.B) {
	r := start(b)
	d := r.blob(random(1 << 20)).Digest
	b.SetBytes(1 << 20)
	get(b, r.Registry, r.URL("/v2/"+r.name+"/blobs/"+d.String()))
}

func get(b *testing.B, r *registrytest.Registry, url string) {
	r.Client.Transport.(*http.Transport).MaxIdleConnsPerHost = 32
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			resp, err := r.Client.Get(url)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
}
