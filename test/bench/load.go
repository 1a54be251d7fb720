package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// What benchLoad loads: images of three layers, 170 MB, like those of a language's runtime.
const (
	loadLayers = 3
	loadFiles  = 1000 // in each layer
	loadSize   = 56000
)

// benchLoad loads images that neither daemon has ever had. An image that was removed just before is no measure: its layers
// may be there still, and ext4 looks for new inodes among those that were deleted in the last minutes, which takes half of
// the time.
func (b *bench) benchLoad() error {
	var list [2][]time.Duration
	for n := range 3 {
		file, tag := filepath.Join(b.dir, "load.tar"), fmt.Sprintf("load%d", n)
		if err := writeImage(file, tag, byte(n)); err != nil {
			return err
		}
		for i, d := range b.daemons() { // interleaved
			unix.Sync() // neither writes back the archive or the other's files
			t, err := times(1, func() error { _, err := d.run("load", "-i", file); return err })
			if err != nil {
				return err
			}
			list[i] = append(list[i], t...)
		}
	}
	for _, d := range b.daemons() {
		if _, err := d.run("rmi", "load0", "load1", "load2"); err != nil {
			return err
		}
	}
	var best [2]time.Duration
	for i := range best {
		if len(list[i]) > 0 {
			best[i] = sortedMedian(list[i])
		}
	}
	print("docker load, 170 MB in 3 layers", ms(best[0]), ms(best[1]), "–", ratio(float64(best[1]), float64(best[0]))+" faster", "≥ 2 × dockerd")
	return nil
}

// writeImage writes an archive as docker save does, of files that nothing compresses.
func writeImage(file, tag string, seed byte) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	var names, diffs []string
	for n := range loadLayers {
		layer, err := layerOf([32]byte{seed, byte(n)}, n)
		if err != nil {
			return err
		}
		names, diffs = append(names, fmt.Sprintf("layer%d.tar", n)), append(diffs, fmt.Sprintf("sha256:%x", sha256.Sum256(layer)))
		if err := addFile(w, names[n], bytes.NewReader(layer), len(layer)); err != nil {
			return err
		}
	}
	config := object{"architecture": "amd64", "os": "linux", "config": object{}, "rootfs": object{"type": "layers", "diff_ids": diffs}}
	manifest := []object{{"Config": "config.json", "RepoTags": []string{tag + ":latest"}, "Layers": names}}
	for name, doc := range map[string]any{"config.json": config, "manifest.json": manifest} {
		text, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		if err := addFile(w, name, bytes.NewReader(text), len(text)); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func layerOf(seed [32]byte, n int) ([]byte, error) {
	var layer bytes.Buffer
	layer.Grow(loadFiles * (loadSize + 1024))
	w, noise := tar.NewWriter(&layer), rand.NewChaCha8(seed)
	for i := range loadFiles {
		if err := addFile(w, fmt.Sprintf("dir%d/f%d", n, i), noise, loadSize); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return layer.Bytes(), err
}

func addFile(w *tar.Writer, name string, from io.Reader, size int) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size)}); err != nil {
		return err
	}
	_, err := io.CopyN(w, from, int64(size))
	return err
}
