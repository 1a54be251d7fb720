package userns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"longshore/internal/core/fault"
	"longshore/internal/core/idmap"
)

// Files of the host that --userns-remap is looked up in; others in tests.
type files struct{ passwd, group, subuid, subgid string }

func hostFiles() files {
	return files{"/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"}
}

// defaultUser is whom "default" stands for.
const defaultUser = "dockremap"

// Remap reads the setting userns-remap ("user", "uid", "user:group", "uid:gid" or "default") and the subordinate numbers
// of that user and group. For "default" the user and its numbers are made when they are missing, as dockerd does.
func Remap(setting string) (*idmap.Map, error) {
	f := hostFiles()
	if setting == "default" {
		if err := f.makeDefault(); err != nil {
			return nil, fault.Invalid("userns-remap: %w", err)
		}
		setting = defaultUser
	}
	return f.remap(setting)
}

func (f files) remap(setting string) (*idmap.Map, error) {
	u, g, both := strings.Cut(setting, ":")
	if u == "" || both && (g == "" || strings.Contains(g, ":")) {
		return nil, fault.Invalid("userns-remap: invalid user/group specification in --userns-remap: %q", setting)
	}
	uid, userName, err := f.user(u)
	if err != nil {
		return nil, err
	}
	gid, groupName := uid, userName
	if both {
		if gid, groupName, err = f.groupOf(g); err != nil {
			return nil, err
		}
	} else if n, name, err := f.groupOf(userName); err == nil {
		gid, groupName = n, name
	}
	m := &idmap.Map{}
	if m.UIDs, err = subordinate(f.subuid, userName, uid); err != nil {
		return nil, err
	}
	m.GIDs, err = subordinate(f.subgid, groupName, gid)
	return m, err
}

func subordinate(path, name string, id int) ([]idmap.Range, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Invalid("userns-remap: %w", err)
	}
	list, err := idmap.Subordinate(string(text), name, id)
	if err == nil && len(list) == 0 {
		err = fault.Invalid("userns-remap: no ranges found for %q in %s", name, path)
	}
	return list, err
}

func (f files) user(spec string) (uid int, name string, err error) {
	n, nerr := strconv.Atoi(spec)
	list, err := user.ParsePasswdFileFilter(f.passwd, func(u user.User) bool {
		return u.Name == spec || nerr == nil && u.Uid == n
	})
	if err != nil || len(list) == 0 {
		return 0, "", fault.Invalid("userns-remap: error during %q lookup: no such user in %s", spec, f.passwd)
	}
	return list[0].Uid, list[0].Name, nil
}

func (f files) groupOf(spec string) (gid int, name string, err error) {
	n, nerr := strconv.Atoi(spec)
	list, err := user.ParseGroupFileFilter(f.group, func(g user.Group) bool {
		return g.Name == spec || nerr == nil && g.Gid == n
	})
	if err != nil || len(list) == 0 {
		return 0, "", fault.Invalid("userns-remap: error during %q lookup: no such group in %s", spec, f.group)
	}
	return list[0].Gid, list[0].Name, nil
}

// makeDefault adds the default user, and ranges of 65536 numbers for it, where they are missing.
func (f files) makeDefault() error {
	if _, _, err := f.user(defaultUser); err != nil {
		out, err := exec.Command("useradd", "--system", "--no-create-home", "--shell", "/bin/false", "--user-group", defaultUser).CombinedOutput()
		if err != nil {
			return fmt.Errorf("couldn't create default user %q: %w: %s", defaultUser, err, strings.TrimSpace(string(out)))
		}
	}
	for _, path := range []string{f.subuid, f.subgid} {
		if _, err := subordinate(path, defaultUser, -1); err == nil {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			text = append(text, '\n')
		}
		text = fmt.Appendf(text, "%s:%d:65536\n", defaultUser, idmap.Free(string(text)))
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return fmt.Errorf("couldn't give numbers to %q: %w", defaultUser, err)
		}
	}
	return nil
}
