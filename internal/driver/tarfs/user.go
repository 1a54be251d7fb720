package tarfs

import (
	"errors"
	"io"
	"io/fs"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// User looks a "user[:group]", by name or number, up in the root's own passwd and group files. Empty is root.
func (r *Root) User(spec string) (*Owner, error) {
	passwd, err := r.small("/etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := r.small("/etc/group")
	if err != nil {
		return nil, err
	}
	u, err := user.GetExecUser(spec, &user.ExecUser{}, passwd, group)
	if err != nil {
		return nil, fault.Invalid("%w", err)
	}
	return &Owner{UID: u.Uid, GID: u.Gid}, nil
}

// small reads a regular file of the root, up to 4 MiB; a missing one is empty.
func (r *Root) small(name string) (io.Reader, error) {
	f, err := r.open(name, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) {
		return strings.NewReader(""), nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return strings.NewReader(""), err
	}
	data, err := reopen(f, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer data.Close()
	text, err := io.ReadAll(io.LimitReader(data, 4<<20))
	return strings.NewReader(string(text)), err
}
