package blobs3

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/minio/minio-go/v7"
)

// object reads one object as a stream; a seek opens another stream where reading goes on. Reads belong to the request
// that opened it: the context ends them.
type object struct {
	ctx   context.Context
	store *Store
	name  string
	size  int64

	body io.ReadCloser // nil when nothing is open
	at   int64         // the body's position
	want int64         // where the next read shall begin
}

// open begins a stream at an offset; the first learns the size.
func (o *object) open(at int64) error {
	var opts minio.GetObjectOptions
	if at > 0 {
		if err := opts.SetRange(at, 0); err != nil {
			return err
		}
	}
	body, info, _, err := o.store.core.GetObject(o.ctx, o.store.bucket, o.name, opts)
	if err != nil {
		return err
	}
	if at == 0 {
		o.size = info.Size
	}
	o.body, o.at, o.want = body, at, at
	return nil
}

// Read implements io.Reader.
func (o *object) Read(p []byte) (int, error) {
	if o.want >= o.size {
		return 0, io.EOF
	}
	if o.body == nil || o.at != o.want {
		at := o.want
		if err := errors.Join(o.Close(), o.open(at)); err != nil {
			return 0, fmt.Errorf("read %s at %d: %w", o.name, at, err)
		}
	}
	n, err := o.body.Read(p)
	o.at += int64(n)
	o.want = o.at
	if err == io.EOF && o.at < o.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Seek implements io.Seeker. It asks the service for nothing.
func (o *object) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += o.want
	case io.SeekEnd:
		offset += o.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	o.want = offset
	return offset, nil
}

// Close implements io.Closer.
func (o *object) Close() error {
	if o.body == nil {
		return nil
	}
	err := o.body.Close()
	o.body = nil
	return err
}
