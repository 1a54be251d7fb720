package ocispec

import (
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/fault"
	"longshore/internal/core/host"
)

// initInContainer is where the init binary is bound; docker's own place for it.
const initInContainer = "/sbin/docker-init"

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// setProcess fills in the container's first process.
func setProcess(s *specs.Spec, in *Input, sec Security) error {
	args := append(slices.Clone(in.Config.Entrypoint), in.Config.Cmd...)
	if len(args) == 0 {
		return fault.Invalid("no command specified")
	}
	if wantsInit(in) {
		args = append([]string{initInContainer, "--"}, args...)
	}
	caps, err := capabilities(in.HostConfig.CapAdd, in.HostConfig.CapDrop, in.HostConfig.Privileged, &in.Host.Security)
	if err != nil {
		return err
	}
	user, err := lookupUser(in.Rootfs, in.Config.User, in.HostConfig.GroupAdd)
	if err != nil {
		return err
	}
	user.Umask = in.HostConfig.Umask
	rlimits, err := Rlimits(in.HostConfig.Ulimits, in.Defaults.Ulimits, &in.Host.Limits)
	if err != nil {
		return err
	}
	score, err := oomScore(in.HostConfig.OomScoreAdj, &in.Host.Limits)
	if err != nil {
		return err
	}
	cwd := in.Config.WorkingDir
	if cwd == "" {
		cwd = "/"
	}
	s.Process = &specs.Process{
		Args: args, Cwd: cwd, Env: environment(in), Terminal: in.Config.Tty, User: user,
		Capabilities: linuxCaps(caps), Rlimits: rlimits, NoNewPrivileges: sec.NoNewPrivileges, OOMScoreAdj: score,
	}
	s.Process.ApparmorProfile = AppArmorProfile(in.HostConfig, &in.Host.Security)
	if s.Process.ApparmorProfile != "" && in.AppArmor != nil {
		if err := in.AppArmor.Ensure(s.Process.ApparmorProfile); err != nil {
			return err
		}
	}
	if size := in.HostConfig.ConsoleSize; in.Config.Tty && size != [2]uint{} {
		s.Process.ConsoleSize = &specs.Box{Height: size[0], Width: size[1]}
	}
	return nil
}

// wantsInit: an init makes sense only where the container has its own process namespace.
func wantsInit(in *Input) bool {
	if !in.HostConfig.PidMode.IsPrivate() {
		return false
	}
	if asked := in.HostConfig.Init; asked != nil {
		return *asked
	}
	return in.Defaults.Init
}

// environment is docker's: defaults first, then links, then the image's and user's variables in their place. A variable
// without "=" removes the default of that name.
func environment(in *Input) []string {
	env := []string{"PATH=" + defaultPath, "HOSTNAME=" + in.Config.Hostname}
	if in.Config.Tty {
		env = append(env, "TERM=xterm")
	}
	return MergeEnv(append(env, in.LinkEnv...), in.Config.Env)
}

// MergeEnv lays overrides over defaults: a same-named variable is replaced where it stands, a new one is appended, and a
// bare name removes the default.
func MergeEnv(defaults, overrides []string) []string {
	env := make([]string, len(defaults), len(defaults)+len(overrides))
	copy(env, defaults)
	at := make(map[string]int, len(env))
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		at[name] = i
	}
	for _, e := range overrides {
		name, _, set := strings.Cut(e, "=")
		i, known := at[name]
		switch {
		case !set && known:
			env[i] = ""
		case !set:
		case known:
			env[i] = e
		default:
			at[name] = len(env)
			env = append(env, e)
		}
	}
	return slices.DeleteFunc(env, func(e string) bool { return e == "" })
}

// Rlimits joins a container's ulimits with the daemon's defaults and refuses those that the kernel would refuse later,
// because the daemon has no CAP_SYS_RESOURCE to raise a hard limit.
func Rlimits(asked []*units.Ulimit, defaults map[string]*units.Ulimit, lim *host.Limits) ([]specs.POSIXRlimit, error) {
	all := make(map[string]*units.Ulimit, len(asked)+len(defaults))
	names := make([]string, 0, len(asked)+len(defaults))
	put := func(u *units.Ulimit) {
		if _, ok := all[u.Name]; !ok {
			names = append(names, u.Name)
		}
		all[u.Name] = u
	}
	for _, u := range defaults {
		put(u)
	}
	slices.Sort(names)
	for _, u := range asked {
		put(u)
	}
	var out []specs.POSIXRlimit
	for _, name := range names {
		u := all[name]
		if max, bounded := lim.HardRlimits[name]; bounded && uint64(u.Hard) > max {
			return nil, fault.Invalid("ulimit %s: hard limit %s is above %d, the most that this daemon may set (it has no CAP_SYS_RESOURCE): operation not permitted", name, limitText(u.Hard), max)
		}
		out = append(out, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	return out, nil
}

func limitText(n int64) string {
	if n == -1 {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

// oomScore leaves the score inherited where the default of 0 would be a forbidden lowering; a lowering that was asked for
// is refused in plain words instead of the runtime's "permission denied".
func oomScore(asked int, lim *host.Limits) (*int, error) {
	if asked >= lim.OomScoreAdj || lim.MayLowerOom {
		return &asked, nil
	}
	if asked == 0 {
		return nil, nil
	}
	return nil, fault.Invalid("oom score adj %d is below the daemon's own %d, and lowering it is not permitted here (no CAP_SYS_RESOURCE)", asked, lim.OomScoreAdj)
}
