package buildsource

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"longshore/internal/core/fault"
)

// Repository is what a git address names: "https://host/path.git#ref:folder".
type Repository struct {
	// Address without the fragment, as git takes it.
	Address string
	// Ref is a branch, tag or commit; empty: the default branch.
	Ref string
	// Folder below the top; empty: the top.
	Folder string
}

// ParseRepository reads a git address; ok tells whether remote is one. Docker's rules: git:// and ssh addresses,
// github.com/…, user@host:path, and HTTP addresses whose path ends in ".git".
func ParseRepository(remote string) (r Repository, ok bool) {
	address, fragment, _ := strings.Cut(remote, "#")
	switch {
	case strings.HasPrefix(address, "git://"), strings.HasPrefix(address, "ssh://"), scpForm.MatchString(address):
	case strings.HasPrefix(address, "github.com/"):
		address = "https://" + address
	case strings.HasPrefix(address, "http://"), strings.HasPrefix(address, "https://"):
		if !strings.HasSuffix(address, ".git") {
			return Repository{}, false
		}
	default:
		return Repository{}, false
	}
	r.Address = address
	r.Ref, r.Folder, _ = strings.Cut(fragment, ":")
	return r, true
}

var scpForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.\-]*@[A-Za-z0-9][A-Za-z0-9.\-]*:[^/].*`)

// Clone checks the repository out below dir, which must be empty, and answers the directory of the files.
func (r *Remotes) Clone(ctx context.Context, repo Repository, dir string) (string, error) {
	if strings.HasPrefix(repo.Ref, "-") || strings.ContainsAny(repo.Ref, " \t\n\x00:") {
		return "", fault.Invalid("invalid git reference %q", repo.Ref)
	}
	g := git{program: r.cfg.Git, dir: dir}
	stop, err := r.guardGit(ctx, &g, repo)
	if err != nil {
		return "", err
	}
	defer stop()
	ref := repo.Ref
	if ref == "" {
		ref = "HEAD"
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"remote", "add", "origin", repo.Address}} {
		if out, err := g.run(ctx, args...); err != nil {
			return "", fmt.Errorf("prepare git context: %w: %s", err, out)
		}
	}
	if err := g.fetch(ctx, ref); err != nil {
		return "", g.words(repo.Address, err)
	}
	if out, err := g.run(ctx, "checkout", "--quiet", "--detach", "FETCH_HEAD"); err != nil {
		return "", fault.Invalid("error checking out %s: %s", ref, out)
	}
	if _, err := os.Stat(filepath.Join(dir, ".gitmodules")); err == nil {
		if !r.cfg.AllowLocal {
			g.protocols = "http:https"
		}
		if out, err := g.run(ctx, "submodule", "update", "--init", "--recursive", "--depth=1"); err != nil {
			return "", g.words(repo.Address, fault.Invalid("error initializing submodules: %s", out))
		}
	}
	return folder(dir, repo.Folder)
}

// folder is a directory of the checkout; links out of it are not followed.
func folder(dir, name string) (string, error) {
	if name == "" {
		return dir, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	rel := filepath.Clean(strings.TrimLeft(name, "/"))
	fi, err := root.Stat(rel)
	if err != nil {
		return "", fault.Invalid("error setting git context, %q not within git root: %w", name, err)
	}
	if !fi.IsDir() {
		return "", fault.Invalid("error setting git context, not a directory: %s", name)
	}
	return filepath.EvalSymlinks(filepath.Join(dir, rel))
}

// guardGit sees to it that git reaches no local address: HTTP goes through a proxy of ours, whatever redirects and
// submodules say; other protocols are looked up before and not allowed for submodules.
func (r *Remotes) guardGit(ctx context.Context, g *git, repo Repository) (stop func(), err error) {
	none := func() {}
	g.protocols = "http:https:git:ssh"
	if r.cfg.AllowLocal {
		return none, nil
	}
	if !strings.HasPrefix(repo.Address, "http") {
		if err := r.guard.host(ctx, gitHost(repo.Address)); err != nil {
			return nil, refused(repo.Address, err)
		}
	} else if g.protocols = "http:https"; isProxied(repo.Address) {
		return none, nil
	}
	p, err := startProxy(r.guard)
	if err != nil {
		return nil, err
	}
	g.proxy = p
	return p.stop, nil
}

func gitHost(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Hostname()
	}
	_, host, _ := strings.Cut(address, "@")
	host, _, _ = strings.Cut(host, ":")
	return host
}

// git runs the program in a repository.
type git struct {
	program, dir string
	protocols    string
	proxy        *proxy
}

// fetch gets one commit, or, from servers that cannot do so, what leads to it, or the whole history.
func (g *git) fetch(ctx context.Context, ref string) error {
	first, err := g.run(ctx, "fetch", "--quiet", "--depth", "1", "origin", "--", ref)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, err := g.run(ctx, "fetch", "--quiet", "origin", "--", ref); err == nil {
		return nil
	}
	out, err := g.run(ctx, "fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")
	if err != nil {
		return fault.Invalid("error fetching: %s", first)
	}
	for _, name := range []string{"refs/remotes/origin/" + ref, ref + "^{commit}"} {
		if out, err = g.run(ctx, "rev-parse", "--verify", "--quiet", name); err == nil {
			return os.WriteFile(filepath.Join(g.dir, ".git", "FETCH_HEAD"), []byte(strings.TrimSpace(out)+"\n"), 0o600)
		}
	}
	return fault.Invalid("error fetching: %s", first)
}

// words turns a failure that our guard caused into its own words.
func (g *git) words(address string, err error) error {
	if g.proxy != nil {
		if why := g.proxy.refusal(); why != nil {
			return refused(address, why)
		}
	}
	return err
}

// run answers what git wrote.
func (g *git) run(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "init.defaultBranch=main", "-c", "advice.detachedHead=false", "-c", "gc.auto=0"}, args...)
	if g.proxy != nil {
		args = append([]string{"-c", "http.proxy=" + g.proxy.address()}, args...)
	}
	c := exec.CommandContext(ctx, g.program, args...)
	c.Dir = g.dir
	c.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/false", "SSH_ASKPASS=/bin/false", "GIT_CONFIG_NOSYSTEM=1", "GIT_ALLOW_PROTOCOL="+g.protocols,
		"GIT_SSH_COMMAND=ssh -o BatchMode=yes", "GIT_CEILING_DIRECTORIES="+filepath.Dir(g.dir), "LC_ALL=C")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	c.Stdout, c.Stderr = &limited{&out, 64 << 10}, &limited{&out, 64 << 10}
	err := c.Run()
	return strings.TrimSpace(out.String()), err
}

// limited keeps the beginning of what is written.
type limited struct {
	b    *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.b.Write(p[:n])
	l.left -= n
	return len(p), nil
}
