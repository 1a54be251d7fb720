// Package buildcontext takes in the files of a classic build: an archive or a Dockerfile in the request's body, the form
// of the first API versions, or what an address names. Everything lies in a scratch directory of the build until Close.
package buildcontext

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"os"
	"path/filepath"

	"github.com/docker/go-units"
	"github.com/tonistiigi/fsutil"

	"longshore/internal/core/fault"
	"longshore/internal/driver/buildsource"
	"longshore/internal/driver/tarfs"
)

// Config settles the intake.
type Config struct {
	// Limit of an unpacked context in bytes; 0: none.
	Limit int64
}

// Intake takes contexts in. Safe for concurrent use.
type Intake struct {
	cfg     Config
	scratch *buildsource.Scratch
	remotes *buildsource.Remotes
}

// New makes an intake.
func New(cfg Config, scratch *buildsource.Scratch, remotes *buildsource.Remotes) *Intake {
	return &Intake{cfg: cfg, scratch: scratch, remotes: remotes}
}

// Source is what a request brings. Exactly one of Body, Form and Remote counts, the last one that is set.
type Source struct {
	Body io.Reader
	// Form has the parts Dockerfile and Context, as before API 1.3.
	Form *multipart.Reader
	// Remote is the address of a Dockerfile, of an archive, or of a git repository.
	Remote string
	// Dockerfile is its path in the context; empty: "Dockerfile".
	Dockerfile string
}

// Context is what came in.
type Context struct {
	// Files are the context's, without what .dockerignore names.
	Files fsutil.FS
	// Dockerfile is the text, Name what it is called in messages.
	Dockerfile []byte
	Name       string

	intake *Intake
	dir    string
	ignore []string
}

// Parts of a scratch directory.
const (
	filesDir      = "context"
	dockerfileDir = "dockerfile"
)

// Take takes a source in. The caller closes what it gets; after an error nothing is left.
func (in *Intake) Take(ctx context.Context, s Source) (_ *Context, err error) {
	dir, err := in.scratch.Dir()
	if err != nil {
		return nil, err
	}
	c := &Context{intake: in, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	for _, d := range []string{filesDir, dockerfileDir} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	files := filepath.Join(dir, filesDir)
	switch {
	case s.Remote != "":
		files, err = c.remote(ctx, s.Remote)
	case s.Form != nil:
		err = c.form(ctx, s.Form)
	default:
		err = c.body(ctx, s.Body)
	}
	if err != nil {
		return nil, err
	}
	if c.Dockerfile == nil {
		if err := c.find(files, s.Dockerfile); err != nil {
			return nil, err
		}
	}
	return c, c.open(files)
}

// Close removes the scratch directory.
func (c *Context) Close() error { return c.intake.scratch.Remove(c.dir) }

// body takes an archive, or a Dockerfile alone.
func (c *Context) body(ctx context.Context, body io.Reader) error {
	if body == nil {
		return fault.Invalid("no build context was sent")
	}
	head := newHead(body)
	if head.isText() {
		return c.text(head, "Dockerfile")
	}
	if err := c.unpack(ctx, head); err != nil {
		// A client that still sends would see its connection break instead of the answer.
		_, _ = io.Copy(io.Discard, io.LimitReader(head, maxTrailer))
		return err
	}
	// What follows the archive's end is read, so that the connection can tell when the client goes.
	if n, err := io.Copy(io.Discard, io.LimitReader(head, maxTrailer)); err == nil && n == maxTrailer {
		return fault.Invalid("the build context has more than %s behind its end", units.BytesSize(maxTrailer))
	}
	return nil
}

// maxTrailer bounds what may follow the end of an archive, in bytes: tar pads to whole records.
const maxTrailer = 64 << 20

// maxDockerfile bounds a Dockerfile, in bytes.
const maxDockerfile = 2 << 20

// text takes a Dockerfile; the context stays empty.
func (c *Context) text(r io.Reader, name string) (err error) {
	c.Name = name
	if c.Dockerfile, err = io.ReadAll(io.LimitReader(r, maxDockerfile+1)); err != nil {
		return fault.Invalid("read %s: %w", name, err)
	}
	if len(c.Dockerfile) > maxDockerfile {
		return fault.Invalid("%s is larger than %s", name, units.BytesSize(maxDockerfile))
	}
	if c.Dockerfile == nil {
		c.Dockerfile = []byte{}
	}
	return nil
}

// unpack writes an archive into the context.
func (c *Context) unpack(ctx context.Context, r io.Reader) error {
	root, err := tarfs.Open(filepath.Join(c.dir, filesDir))
	if err != nil {
		return err
	}
	defer root.Close()
	check := checker{limit: c.intake.cfg.Limit}
	err = root.Unpack(ctx, "/", r, tarfs.UnpackOptions{Owner: &tarfs.Owner{}, Check: check.entry})
	if err != nil {
		return fault.New(class(err), "Error processing tar file: %w", err)
	}
	return nil
}

// form takes the parts of a form; their order does not matter.
func (c *Context) form(ctx context.Context, form *multipart.Reader) error {
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fault.Invalid("read form: %w", err)
		}
		switch part.FormName() {
		case "Dockerfile":
			err = c.text(part, "Dockerfile")
		case "Context":
			err = c.unpack(ctx, part)
		default:
			_, err = io.Copy(io.Discard, part)
		}
		if err != nil {
			return err
		}
	}
	if c.Dockerfile == nil {
		return fault.Invalid("http: no such file") // what daemons of that day answered to a form without Dockerfile
	}
	return nil
}

// remote fetches what an address names.
func (c *Context) remote(ctx context.Context, address string) (files string, err error) {
	files = filepath.Join(c.dir, filesDir)
	if repo, ok := buildsource.ParseRepository(address); ok {
		files, err = c.intake.remotes.Clone(ctx, repo, files)
		if err != nil {
			return "", err
		}
		return files, c.fits(files)
	}
	if !isURL(address) {
		return "", fault.Invalid("remoteURL (%s) could not be recognized as URL", address)
	}
	body, err := c.intake.remotes.Get(ctx, address)
	if err != nil {
		return "", err
	}
	defer body.Close()
	head := newHead(body)
	if head.isText() {
		return files, c.text(head, address)
	}
	return files, c.unpack(ctx, head)
}

// fits measures a checkout.
func (c *Context) fits(dir string) error {
	limit := c.intake.cfg.Limit
	if limit == 0 {
		return nil
	}
	var sum int64
	return filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if sum += info.Size(); sum > limit {
			return tooLarge(limit)
		}
		return nil
	})
}

func tooLarge(limit int64) error {
	return fault.Invalid("the build context is larger than %s (build-context-limit)", units.BytesSize(float64(limit)))
}

// open makes the file systems that the builder sees.
func (c *Context) open(files string) error {
	all, err := fsutil.NewFS(files)
	if err != nil {
		return fmt.Errorf("open build context: %w", err)
	}
	c.Files, err = fsutil.NewFilterFS(all, &fsutil.FilterOpt{ExcludePatterns: c.ignore})
	if err != nil {
		return fault.Invalid("error parsing .dockerignore: %w", err)
	}
	return nil
}

// Give puts a Dockerfile, as the builder is to read it, in a place of its own, under the name "Dockerfile".
func (c *Context) Give(text []byte) (fsutil.FS, error) {
	dir := filepath.Join(c.dir, dockerfileDir)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), text, 0o644); err != nil {
		return nil, err
	}
	if len(c.ignore) > 0 {
		var doc []byte
		for _, p := range c.ignore {
			doc = append(append(doc, p...), '\n')
		}
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile.dockerignore"), doc, 0o644); err != nil {
			return nil, err
		}
	}
	return fsutil.NewFS(dir)
}

// checker refuses entries of an archive.
type checker struct {
	limit, sum int64
}

func (c *checker) entry(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeChar, tar.TypeBlock:
		return fault.Invalid("%q is a device, which a build context cannot have", h.Name)
	case tar.TypeSymlink:
		if leaves(h.Name, h.Linkname) {
			return fault.Invalid("invalid symlink %q -> %q", h.Name, h.Linkname)
		}
	case tar.TypeLink:
		if leaves("", h.Linkname) {
			return fault.Invalid("invalid hardlink %q -> %q", h.Name, h.Linkname)
		}
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		if c.sum += h.Size; c.limit > 0 && c.sum > c.limit {
			return tooLarge(c.limit)
		}
	}
	if isWhiteout(h.Name) {
		return fault.Invalid("%q has the name of a whiteout, which a build context cannot have", h.Name)
	}
	return nil
}
