// Package changes applies Dockerfile instructions to a container configuration: the "changes" of import and commit.
// Understood are those that only set metadata: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, MAINTAINER, ONBUILD,
// STOPSIGNAL, USER, VOLUME and WORKDIR.
package changes

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/sys/signal"

	"longshore/internal/core/fault"
)

// Apply applies instructions to c, in order. Each element may hold several lines; blank lines and comments are
// skipped, a backslash continues a line. Errors are of class ErrInvalidArgument and leave c half changed.
//
// An ENTRYPOINT drops the command that c came with, not one set by an instruction before it.
func Apply(c *container.Config, instructions []string) error {
	cmdSet := false
	for _, text := range instructions {
		for _, line := range lines(text) {
			cmd, err := apply(c, line)
			if err != nil {
				return err
			}
			if cmd == "ENTRYPOINT" && !cmdSet {
				c.Cmd = nil
			}
			cmdSet = cmdSet || cmd == "CMD"
		}
	}
	return nil
}

// lines joins continued lines and drops comments.
func lines(text string) []string {
	var out []string
	current := ""
	for line := range strings.SplitSeq(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "#") || current == "" && trimmed == "" {
			continue
		}
		if head, more := strings.CutSuffix(strings.TrimRight(line, " \t\r"), `\`); more {
			current += head
			continue
		}
		out = append(out, strings.TrimSpace(current+line))
		current = ""
	}
	if s := strings.TrimSpace(current); s != "" {
		out = append(out, s)
	}
	return out
}

// apply applies one instruction and tells which.
func apply(c *container.Config, line string) (string, error) {
	name, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
	rest = strings.TrimSpace(line[min(len(name), len(line)):])
	cmd := strings.ToUpper(name)
	f, ok := instructions[cmd]
	if !ok {
		if notAllowed[cmd] {
			return cmd, fault.Invalid("%s is not a valid change command", strings.ToLower(name))
		}
		return cmd, fault.Invalid("dockerfile parse error: unknown instruction: %s", name)
	}
	if rest == "" && cmd != "CMD" && cmd != "ENTRYPOINT" {
		return cmd, fault.Invalid("%s requires at least one argument", cmd)
	}
	return cmd, f(c, rest)
}

// notAllowed are instructions that need a build.
var notAllowed = map[string]bool{"FROM": true, "RUN": true, "COPY": true, "ADD": true, "ARG": true, "SHELL": true}

// instructions is never changed.
var instructions = map[string]func(*container.Config, string) error{
	"CMD": func(c *container.Config, s string) error {
		c.Cmd = command(c, s)
		return nil
	},
	"ENTRYPOINT": func(c *container.Config, s string) error {
		c.Entrypoint = command(c, s)
		return nil
	},
	"ENV":   env,
	"LABEL": label,
	"MAINTAINER": func(*container.Config, string) error {
		return nil // an image's author is set elsewhere; docker accepts and forgets it here
	},
	"EXPOSE": expose,
	"USER": func(c *container.Config, s string) error {
		words, err := split(s, c.Env)
		if err != nil || len(words) != 1 {
			return fault.Invalid("USER requires exactly one argument")
		}
		c.User = words[0]
		return nil
	},
	"WORKDIR":     workdir,
	"VOLUME":      volume,
	"ONBUILD":     onbuild,
	"STOPSIGNAL":  stopSignal,
	"HEALTHCHECK": healthcheck,
}

// jsonList reads the exec form.
func jsonList(s string) ([]string, bool) {
	if !strings.HasPrefix(s, "[") {
		return nil, false
	}
	list := []string{}
	if json.Unmarshal([]byte(s), &list) != nil {
		return nil, false
	}
	return list, true
}

// command reads exec or shell form.
func command(c *container.Config, s string) []string {
	if list, ok := jsonList(s); ok {
		return list
	}
	if s == "" {
		return []string{}
	}
	shell := []string{"/bin/sh", "-c"}
	if len(c.Shell) > 0 {
		shell = slices.Clone([]string(c.Shell))
	}
	return append(shell, s)
}

func env(c *container.Config, s string) error {
	pairs, err := pairs("ENV", s, c.Env)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		if p[0] == "" {
			return fault.Invalid("ENV names can not be blank")
		}
		c.Env = setEnv(c.Env, p[0], p[1])
	}
	return nil
}

func setEnv(list []string, name, value string) []string {
	out := slices.Clone(list)
	for i, e := range out {
		if k, _, _ := strings.Cut(e, "="); k == name {
			out[i] = name + "=" + value
			return out
		}
	}
	return append(out, name+"="+value)
}

func label(c *container.Config, s string) error {
	pairs, err := pairs("LABEL", s, c.Env)
	if err != nil {
		return err
	}
	labels := map[string]string{}
	for k, v := range c.Labels {
		labels[k] = v
	}
	for _, p := range pairs {
		if p[0] == "" {
			return fault.Invalid("LABEL names can not be blank")
		}
		labels[p[0]] = p[1]
	}
	c.Labels = labels
	return nil
}

// pairs reads "k=v k2=v2" or the old "k rest of line".
func pairs(name, s string, env []string) ([][2]string, error) {
	words, err := split(s, env)
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(s, " ")
	if !strings.Contains(first, "=") {
		k, v, ok := strings.Cut(s, " ")
		if !ok {
			return nil, fault.Invalid("%s must have two arguments", name)
		}
		value, err := expand(strings.TrimSpace(v), env)
		if err != nil {
			return nil, err
		}
		return [][2]string{{k, value}}, nil
	}
	var out [][2]string
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return nil, fault.Invalid("Syntax error - can't find = in %q. Must be of the form: name=value", w)
		}
		out = append(out, [2]string{k, v})
	}
	return out, nil
}

func expose(c *container.Config, s string) error {
	words, err := split(s, c.Env)
	if err != nil {
		return err
	}
	ports := network.PortSet{}
	for p := range c.ExposedPorts {
		ports[p] = struct{}{}
	}
	for _, w := range words {
		r, err := network.ParsePortRange(strings.ToLower(w))
		if err != nil {
			return fault.Invalid("invalid containerPort: %s", w)
		}
		for p := range r.All() {
			ports[p] = struct{}{}
		}
	}
	c.ExposedPorts = ports
	return nil
}

func workdir(c *container.Config, s string) error {
	words, err := split(s, c.Env)
	if err != nil || len(words) == 0 {
		return fault.Invalid("WORKDIR requires exactly one argument")
	}
	dir := strings.Join(words, " ")
	if !path.IsAbs(dir) {
		dir = path.Join("/", c.WorkingDir, dir)
	}
	c.WorkingDir = path.Clean(dir)
	return nil
}

func volume(c *container.Config, s string) error {
	list, ok := jsonList(s)
	if !ok {
		var err error
		if list, err = split(s, c.Env); err != nil {
			return err
		}
	}
	volumes := map[string]struct{}{}
	for v := range c.Volumes {
		volumes[v] = struct{}{}
	}
	for _, v := range list {
		if v = strings.TrimSpace(v); v == "" {
			return fault.Invalid("VOLUME specified can not be an empty string")
		}
		volumes[v] = struct{}{}
	}
	c.Volumes = volumes
	return nil
}

func onbuild(c *container.Config, s string) error {
	trigger, _, _ := strings.Cut(s, " ")
	switch trigger = strings.ToUpper(trigger); trigger {
	case "ONBUILD":
		return fault.Invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "MAINTAINER", "FROM":
		return fault.Invalid("%s isn't allowed as an ONBUILD trigger", trigger)
	}
	c.OnBuild = append(slices.Clone(c.OnBuild), s)
	return nil
}

func stopSignal(c *container.Config, s string) error {
	words, err := split(s, c.Env)
	if err != nil || len(words) != 1 {
		return fault.Invalid("STOPSIGNAL requires exactly one argument")
	}
	if _, err := signal.ParseSignal(words[0]); err != nil {
		return fault.Invalid("%w", err)
	}
	c.StopSignal = words[0]
	return nil
}

func healthcheck(c *container.Config, s string) error {
	h := &container.HealthConfig{}
	words := s
	for strings.HasPrefix(words, "--") {
		flag, rest, _ := strings.Cut(words, " ")
		if err := healthFlag(h, flag); err != nil {
			return err
		}
		words = strings.TrimSpace(rest)
	}
	kind, rest, _ := strings.Cut(words, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToUpper(kind) {
	case "NONE":
		if rest != "" {
			return fault.Invalid("HEALTHCHECK NONE takes no arguments")
		}
		h.Test = []string{"NONE"}
	case "CMD":
		if rest == "" {
			return fault.Invalid("Missing command after HEALTHCHECK CMD")
		}
		if list, ok := jsonList(rest); ok {
			h.Test = append([]string{"CMD"}, list...)
		} else {
			h.Test = []string{"CMD-SHELL", rest}
		}
	default:
		return fault.Invalid("Unknown type %q in HEALTHCHECK (try CMD)", strings.ToUpper(kind))
	}
	c.Healthcheck = h
	return nil
}

func healthFlag(h *container.HealthConfig, flag string) error {
	name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
	if name == "retries" {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return fault.Invalid("--retries must be at least 0 (not %s)", value)
		}
		h.Retries = n
		return nil
	}
	targets := map[string]*time.Duration{
		"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval,
	}
	target, ok := targets[name]
	if !ok {
		return fault.Invalid("unknown flag: --%s", name)
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return fault.Invalid("invalid duration for --%s: %q", name, value)
	}
	if d != 0 && d < container.MinimumDuration {
		return fault.Invalid("Interval %q cannot be less than %s", name, container.MinimumDuration)
	}
	*target = d
	return nil
}
