package ocispec

import (
	"slices"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/fault"
	"longshore/internal/core/host"
)

// ExecInput is what an exec needs: the request, the running container's specification and its (still mounted) root.
type ExecInput struct {
	Request *container.ExecCreateRequest
	// Spec is the container's own, as Generate made it.
	Spec   *specs.Spec
	Rootfs string
	// User and GroupAdd are the container's, for an exec that names no user of its own.
	GroupAdd []string
	Host     *host.Facts
}

// Exec builds the process of `docker exec`: the container's process with the request's command, user, environment,
// directory and terminal, and every capability when privileged.
func Exec(in *ExecInput) (*specs.Process, error) {
	r := in.Request
	if len(r.Cmd) == 0 {
		return nil, fault.Invalid("No exec command specified")
	}
	p := *in.Spec.Process
	p.Args = slices.Clone(r.Cmd)
	p.Terminal = r.Tty
	p.ConsoleSize = nil
	if r.Tty && r.ConsoleSize != nil {
		p.ConsoleSize = &specs.Box{Height: r.ConsoleSize[0], Width: r.ConsoleSize[1]}
	}
	if r.WorkingDir != "" {
		p.Cwd = r.WorkingDir
	}
	p.Env = execEnv(p.Env, r)
	if r.User != "" {
		u, err := lookupUser(in.Rootfs, r.User, in.GroupAdd)
		if err != nil {
			return nil, err
		}
		u.Umask = p.User.Umask
		p.User = u
	}
	if r.Privileged {
		p.Capabilities = linuxCaps(slices.Clone(in.Host.Security.Capabilities))
	}
	return &p, nil
}

// execEnv: an exec with a terminal gets TERM even when the container has none.
func execEnv(env []string, r *container.ExecCreateRequest) []string {
	var defaults []string
	if r.Tty && !slices.ContainsFunc(env, func(e string) bool { return len(e) > 5 && e[:5] == "TERM=" }) {
		defaults = []string{"TERM=xterm"}
	}
	return MergeEnv(append(slices.Clone(env), defaults...), r.Env)
}
