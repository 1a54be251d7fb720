package buildcontext

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"longshore/internal/core/fault"
	"longshore/internal/driver/tarfs"
)

// find reads the Dockerfile out of the context, and what it ignores.
func (c *Context) find(files, name string) error {
	asked := name
	if name == "" {
		name = "Dockerfile"
	}
	clean := path.Clean(strings.TrimLeft(filepath.ToSlash(name), "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return fault.Invalid("forbidden path outside the build context: %s ()", name)
	}
	text, err := readFile(files, clean, maxDockerfile)
	if errors.Is(err, os.ErrNotExist) && (asked == "" || asked == "Dockerfile") {
		if text, err = readFile(files, "dockerfile", maxDockerfile); err == nil {
			clean = "dockerfile"
		}
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fault.Invalid("Cannot locate specified Dockerfile: %s", name)
	case err != nil:
		return fault.Invalid("read Dockerfile %s: %w", name, err)
	}
	c.Dockerfile, c.Name = text, name
	if c.Dockerfile == nil {
		c.Dockerfile = []byte{}
	}
	return c.readIgnore(files, clean)
}

// readIgnore reads what the context leaves out: the Dockerfile's own list, else the context's.
func (c *Context) readIgnore(files, dockerfile string) error {
	for _, name := range []string{dockerfile + ".dockerignore", ".dockerignore"} {
		text, err := readFile(files, name, maxDockerfile)
		if errors.Is(err, os.ErrNotExist) || (err == nil && len(text) == 0) {
			continue
		}
		if err != nil {
			return fault.Invalid("error reading %s: %w", name, err)
		}
		patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
		if err == nil {
			_, err = patternmatcher.New(patterns)
		}
		if err != nil {
			return fault.Invalid("error parsing %s: %w", name, err)
		}
		c.ignore = patterns
		return nil
	}
	return nil
}

// readFile reads a small file; links are followed inside the context as if it were the whole file system.
func readFile(dir, name string, limit int64) ([]byte, error) {
	root, err := tarfs.Open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	real, err := root.Real("/" + name)
	if err != nil {
		return nil, err
	}
	plain, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	// A named pipe would wait for its other end.
	info, err := plain.Lstat(path.Clean("." + real))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fault.Invalid("it is no regular file")
	}
	f, err := plain.Open(path.Clean("." + real))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fault.Invalid("it is larger than %d bytes", limit)
	}
	return text, err
}

// head looks at the beginning of a stream.
type head struct{ *bufio.Reader }

func newHead(r io.Reader) head { return head{bufio.NewReaderSize(r, 256<<10)} }

// isText tells whether a stream is a Dockerfile rather than an archive: text from its first byte on. An archive begins
// with a name that is padded with zeros, or with a compression's magic number.
func (h head) isText() bool {
	b, err := h.Peek(512)
	if len(b) == 0 {
		return false
	}
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax && err == nil; i-- { // a character that is cut in two
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				b = b[:i]
			}
			break
		}
	}
	return utf8.Valid(b) && bytes.IndexFunc(b, control) < 0 && !bytes.HasPrefix(b, []byte("BZh"))
}

func control(c rune) bool { return c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' }

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// leaves tells whether a link of an entry climbs out of the context; absolute targets begin at the context's top.
func leaves(entry, target string) bool {
	if strings.HasPrefix(target, "/") {
		return false
	}
	at := path.Join(path.Dir(path.Clean("/" + entry)[1:]), target)
	return at == ".." || strings.HasPrefix(at, "../")
}

func isWhiteout(name string) bool { return strings.HasPrefix(path.Base(name), ".wh.") }

// class is the kind of error that an unpacking ended with: the archive's fault, unless the client went or the disk failed.
func class(err error) error {
	for _, c := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, c) {
			return c
		}
	}
	for _, disk := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, disk) {
			return errdefs.ErrInternal
		}
	}
	return errdefs.ErrInvalidArgument
}
