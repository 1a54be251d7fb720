package imagev1

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
)

// File is an entry of a layer as the registry API v1 lists it.
type File struct {
	// Name is absolute. That of a deleted file is the file's, not the mark's.
	Name string
	// Type is one letter: f, l (hard link), s, c, b, d, i (fifo), u (unknown).
	Type    string
	Deleted bool
	Size    int64
	// ModTime is in seconds since 1970.
	ModTime        int64
	Mode, UID, GID int64
}

// MarshalJSON writes the list of eight values that the old registry wrote.
func (f File) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{f.Name, f.Type, f.Deleted, f.Size, f.ModTime, f.Mode, f.UID, f.GID})
}

// Info is the list without the name, for maps by name.
func (f File) Info() []any {
	return []any{f.Type, f.Deleted, f.Size, f.ModTime, f.Mode, f.UID, f.GID}
}

const whiteout, auxiliary = ".wh.", ".wh..wh."

// Files calls fn for every entry of an unpacked tar, but for the union file system's own.
func Files(r io.Reader, fn func(File) error) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		f := File{Name: path.Join("/", h.Name), Type: letter(h.Typeflag), Size: h.Size, ModTime: h.ModTime.Unix(),
			Mode: h.Mode, UID: int64(h.Uid), GID: int64(h.Gid)}
		dir, base := path.Split(f.Name)
		if strings.HasPrefix(base, auxiliary) || strings.Contains(dir, "/"+auxiliary) {
			continue
		}
		if name, ok := strings.CutPrefix(base, whiteout); ok {
			f.Name, f.Deleted = dir+name, true
		}
		if err := fn(f); err != nil {
			return err
		}
	}
}

func letter(flag byte) string {
	switch flag {
	case tar.TypeReg, '\x00', tar.TypeGNUSparse:
		return "f"
	case tar.TypeLink:
		return "l"
	case tar.TypeSymlink:
		return "s"
	case tar.TypeChar:
		return "c"
	case tar.TypeBlock:
		return "b"
	case tar.TypeDir:
		return "d"
	case tar.TypeFifo:
		return "i"
	}
	return "u"
}
