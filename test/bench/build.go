package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// tenSteps is a Dockerfile of ten steps on a local base; mark makes it different from others from its third step on.
func tenSteps(mark string) string {
	var b strings.Builder
	b.WriteString("FROM busybox\nENV A=b\n")
	for i := range 6 {
		fmt.Fprintf(&b, "RUN echo %s %d > /f%d\n", mark, i, i)
	}
	b.WriteString("COPY f /f\nCMD [\"sh\"]\n")
	return b.String()
}

// contextOf packs files in pairs of name and text.
func contextOf(files ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		_ = w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}) // into memory
		_, _ = io.WriteString(w, files[i+1])
	}
	_ = w.Close()
	return b.Bytes()
}

// build posts a context and wants an image.
func (d *daemon) build(query string, body io.Reader) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, WriteBufferSize: 1 << 20, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
	}}}
	resp, err := client.Post("http://d/v1.41/build?"+query, "application/x-tar", body)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if !bytes.Contains(text, []byte("Successfully built")) {
		return fmt.Errorf("build: %s: %.500s", resp.Status, text)
	}
	return nil
}

// benchBuild measures a cold build of ten steps and the same again, from the cache.
func (b *bench) benchBuild() error {
	const rounds = 5
	var cold, warm [2]time.Duration
	for i, d := range b.daemons() {
		n := 0
		body := func() io.Reader { return bytes.NewReader(contextOf("Dockerfile", tenSteps(fmt.Sprint(n)), "f", "x")) }
		if err := d.build("", body()); err != nil { // the base is unpacked, the builder has started
			return err
		}
		t, err := times(rounds, func() error { n++; return d.build("", body()) })
		if err != nil {
			return err
		}
		cold[i] = median(t)
		if t, err = times(3*rounds, func() error { return d.build("", body()) }); err != nil {
			return err
		}
		warm[i] = median(t)
	}
	print("cold build of 10 steps", ms(cold[0]), ms(cold[1]), "–", ratio(float64(cold[0]), float64(cold[1]))+" dockerd", "≤ 0.5 × dockerd")
	print("the same from the cache", ms(warm[0]), ms(warm[1]), "–", ratio(float64(warm[0]), float64(warm[1]))+" dockerd", "≤ 100 ms")
	return nil
}

// benchBuildTogether measures four builds at once whose first steps are the same, beside one alone.
func (b *bench) benchBuildTogether() error {
	const n = 4
	var took [2]time.Duration
	for i, d := range b.daemons() {
		mark := time.Now().UnixNano()
		begin := time.Now()
		errs := make([]error, n)
		var all sync.WaitGroup
		for k := range n {
			text := fmt.Sprintf("FROM busybox\nRUN echo %d; sleep 1\nRUN echo common; sleep 1\nRUN echo own %d\n", mark, k)
			all.Go(func() { errs[k] = d.build("", bytes.NewReader(contextOf("Dockerfile", text))) })
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		took[i] = time.Since(begin)
	}
	print("4 builds at once, 2 s of common steps", ms(took[0]), ms(took[1]), "–", ratio(float64(took[0]), float64(took[1]))+" dockerd", "each common step runs once")
	return nil
}

// benchBuildUpload measures a context of 200 MB, of which nothing is used.
func (b *bench) benchBuildUpload() error {
	const size = 200 << 20
	body := contextOf("Dockerfile", "FROM busybox\nCMD [\"sh\"]\n", "big", string(randomBytes(size)))
	var rate [2]float64
	for i, d := range b.daemons() {
		t, err := times(3, func() error { return d.build("", bytes.NewReader(body)) })
		if err != nil {
			return err
		}
		rate[i] = size / 1e6 / median(t).Seconds()
	}
	unit := func(v float64) string { return fmt.Sprintf("%.0f MB/s", v) }
	print("context of 200 MB", unit(rate[0]), unit(rate[1]), "–", ratio(rate[0], rate[1])+" dockerd", "≥ 300 MB/s")
	return nil
}
