package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/driver/ctdstore/partial"
	"longshore/internal/driver/registryclient"
	"longshore/internal/service/engine/images/catalog"
)

// yieldFrom is the number of bytes that must still be missing for a download to make room for others.
const yieldFrom = 4 << 20

// errYield interrupts a download that makes room.
var errYield = errors.New("makes room for another transfer")

// download brings one blob's bytes here. They go to a file first that outlives whatever breaks it off, this process
// included; a part that is there already is not fetched again.
type download struct {
	*fetch
	desc   ocispec.Descriptor
	labels map[string]string
	emit   Emit // nil: nothing is said
	file   *partial.Blob
	pieced bool // the file was put together from several answers
	// wrong are sources that gave something else, last is the one that was asked last.
	wrong []*source
	last  *source
}

// run fetches, checks and stores the blob.
func (d *download) run(ctx context.Context) (err error) {
	if d.file, err = d.partial.Begin(d.desc.Digest); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.file.Close()) }()
	for {
		if err := d.complete(ctx); err != nil {
			return d.failed(err)
		}
		if err = d.say("Verifying Checksum"); err != nil {
			return err
		}
		if err = d.file.Finish(d.desc.Size); err == nil {
			break
		}
		pieced := d.pieced || d.file.Inherited()
		d.pieced = false
		if rerr := d.file.Restart(); rerr != nil {
			return rerr
		}
		if !pieced { // else the pieces do not fit: once more in one
			d.wrong = append(d.wrong, d.last)
		}
		if !errdefs.IsFailedPrecondition(err) || !slices.ContainsFunc(d.from.list, d.usable) {
			return d.refused(err)
		}
	}
	return d.store(ctx)
}

// failed tells why there is no blob. A disk that takes no more gets back what this has taken.
func (d *download) failed(err error) error {
	var local localError
	switch {
	case errors.As(err, &local):
		return errors.Join(local.error, d.file.Restart())
	case errdefs.IsFailedPrecondition(err):
		return d.refused(err)
	}
	return err
}

// refused puts bytes that are not the blob's into docker's words.
func (d *download) refused(err error) error {
	return fault.Internal("filesystem layer verification failed for digest %s: %w", d.desc.Digest, err)
}

// store puts the whole file among the blobs.
func (d *download) store(ctx context.Context) error {
	want := ocispec.Descriptor{Digest: d.desc.Digest, Size: d.file.Size()}
	linked, err := d.Store.LinkBlob(ctx, d.file.Path(), want, d.labels)
	if err == nil && !linked {
		_, err = d.Store.WriteBlob(ctx, d.file.Reader(), want, d.labels)
	}
	if err != nil {
		return err
	}
	return d.file.Remove()
}

// complete fetches what is missing, with a slot, patiently.
func (d *download) complete(ctx context.Context) error {
	id := catalog.Short(d.desc.Digest.String())
	p := patience{attempts: int(d.attempts.Load()), tell: retrying(d.emit, id), unreachable: true, log: d.Log}
	return p.try(ctx, func() (int64, error) {
		before := d.file.Size()
		for {
			err := d.attempt(ctx)
			if errors.Is(err, errYield) && ctx.Err() == nil {
				continue
			}
			return max(d.file.Size()-before, 0), err
		}
	})
}

// attempt fetches what is missing from one of the sources, as long as it has a slot.
func (d *download) attempt(ctx context.Context) error {
	if d.desc.Size > 0 && d.file.Size() == d.desc.Size {
		return nil
	}
	slot, err := d.party.take(ctx, func() error { return d.say("Waiting") })
	if err != nil {
		return err
	}
	defer slot.release()
	return d.from.each(ctx, d.usable, func(src *source) error {
		d.last = src
		sctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		err := d.receive(sctx, src, func(parts bool) {
			if parts && d.desc.Size-d.file.Size() >= yieldFrom {
				slot.interruptible(func() { stop(errYield) })
			}
		})
		slot.interruptible(nil)
		if err != nil && ctx.Err() == nil && errors.Is(context.Cause(sctx), errYield) {
			return errYield
		}
		return err
	}, d.stay)
}

// usable tells whether a source may have the blob.
func (d *download) usable(s *source) bool { return s.Holds() && !slices.Contains(d.wrong, s) }

// stay tells that another source is not to be asked although this one failed.
func (d *download) stay(err error) bool {
	var local localError
	return errors.Is(err, errYield) || errors.As(err, &local)
}

// localError is a failure of this side, which no other source mends.
type localError struct{ error }

// Unwrap gives the cause.
func (l localError) Unwrap() error { return l.error }

// receive reads from one source to the end. opened tells whether it could go on later.
func (d *download) receive(ctx context.Context, src *source, opened func(parts bool)) error {
	from := registryclient.Start{Offset: d.file.Size()}
	if o := d.file.Origin(); o.Host == src.Host() {
		from.ETag = o.ETag
	}
	body, err := src.Blob(ctx, d.desc, from)
	if err != nil {
		return err
	}
	defer body.Close()
	if body.Offset != d.file.Size() {
		if err := d.file.Restart(); err != nil {
			return localError{err}
		}
	}
	if err := d.file.From(partial.Origin{Host: src.Host(), ETag: body.ETag}); err != nil {
		return localError{err}
	}
	d.pieced = d.pieced || body.Offset > 0
	opened(body.Parts)
	return d.copy(body)
}

// copy reads a body into the file, with docker's progress.
func (d *download) copy(body io.Reader) error {
	total := d.desc.Size
	if total > 0 { // one more, so that what is too long is noticed
		body = io.LimitReader(body, total-d.file.Size()+1)
	}
	if d.emit != nil {
		id := catalog.Short(d.desc.Digest.String())
		body = &meter{r: body, done: d.file.Size(), total: total, step: max(total/200, 256<<10), tell: func(done int64) error {
			return d.emit(Line(id, "Downloading", min(done, total), total))
		}}
	}
	w := &checked{w: d.file}
	_, err := io.CopyBuffer(w, struct{ io.Reader }{body}, make([]byte, 256<<10))
	switch {
	case w.failed != nil:
		return localError{w.failed}
	case err == nil && d.file.Size() < total:
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", d.desc.Digest, err)
	}
	return nil
}

// checked tells errors of writing from those of reading.
type checked struct {
	w      io.Writer
	failed error
}

// Write implements io.Writer.
func (c *checked) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.failed = err
	return n, err
}

func (d *download) say(status string) error {
	if d.emit == nil {
		return nil
	}
	return d.emit(State(catalog.Short(d.desc.Digest.String()), status))
}
