package logwriter

import (
	"compress/gzip"
	"io"
	"os"
	"time"
)

// CompressFile replaces path by path.gz. It runs in a process of its own so that the memory of a compressor does not
// stay with the shim. The .gz appears complete or not at all; the header tells the time of the last entry as docker's does.
func CompressFile(path string, lastUnixNano int64) error {
	src, err := os.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	tmp := path + ".gz.tmp"
	dst, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	defer dst.Close()
	z, err := gzip.NewWriterLevel(dst, gzip.BestSpeed)
	if err != nil {
		return err
	}
	z.Extra = []byte(`{"lastTime":"` + time.Unix(0, lastUnixNano).UTC().Format(time.RFC3339Nano) + `"}`)
	if _, err := io.Copy(z, src); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path+".gz"); err != nil {
		return err
	}
	return os.Remove(path)
}
