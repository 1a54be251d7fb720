package launch

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// Link is a container that another one links to by docker's old way: the other learns of it by variables (DB_PORT, DB_NAME,
// DB_ENV_… and one group per exposed port).
type Link struct {
	// Name is "/parent/alias".
	Name string
	// Child is the container linked to; it must run on the default bridge.
	Child *core.Record
}

// ParseLink splits "target[:alias]"; the alias of "/parent/alias", as inspect shows it, is its last part.
func ParseLink(link string) (target, alias string) {
	target, alias, ok := strings.Cut(link, ":")
	target = strings.TrimPrefix(target, "/")
	if !ok || alias == "" {
		return target, path.Base(target)
	}
	return target, path.Base(alias)
}

// bindLinks names the containers of links on the default bridge by their IDs, which renames do not change. Those on a
// user-defined network are names of its DNS, for containers that may come later.
func bindLinks(hc *container.HostConfig, find Finder) error {
	if hc.NetworkMode.IsUserDefined() {
		return nil
	}
	bound := make([]string, 0, len(hc.Links))
	for _, link := range hc.Links {
		target, alias := ParseLink(link)
		child, err := find(target)
		if err != nil {
			return fault.Invalid("could not get container for %s: %s", target, err)
		}
		for child.HostConfig.NetworkMode.IsContainer() { // whose network it is
			owner := child.HostConfig.NetworkMode.ConnectedContainer()
			if child, err = find(owner); err != nil {
				return fault.Invalid("could not get container for %s: %s", owner, err)
			}
		}
		if child.HostConfig.NetworkMode.IsHost() {
			return fault.Invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		}
		bound = append(bound, child.ID+":"+alias)
	}
	if len(bound) > 0 {
		hc.Links = bound
	}
	return nil
}

// LinksTo tells whether a container links to another one on the default bridge.
func LinksTo(rec, child *core.Record) bool {
	return !rec.HostConfig.NetworkMode.IsUserDefined() && slices.ContainsFunc(rec.HostConfig.Links, func(l string) bool {
		target, _ := ParseLink(l)
		return target == child.ID || target == child.Name
	})
}

// Unlink is what is left of a container's links without the one of that alias; false: it has none.
func Unlink(links []string, alias string) ([]string, bool) {
	left := slices.DeleteFunc(slices.Clone(links), func(l string) bool {
		_, a := ParseLink(l)
		return a == alias
	})
	return left, len(left) < len(links)
}

// Finder looks a container up by name or ID.
type Finder func(ref string) (*core.Record, error)

// LinkEnv are the variables of the containers that a container of the default bridge links to.
func LinkEnv(rec *core.Record, find Finder) (env []string, err error) {
	if rec.HostConfig.NetworkMode.IsUserDefined() {
		return nil, nil
	}
	for _, l := range rec.HostConfig.Links {
		target, alias := ParseLink(l)
		child, err := find(target)
		if err != nil {
			return nil, notRunning(target, "/"+rec.Name+"/"+alias)
		}
		more, err := Link{Name: "/" + rec.Name + "/" + alias, Child: child}.Env()
		if err != nil {
			return nil, err
		}
		env = append(env, more...)
	}
	return env, nil
}

// ShownHost is the host configuration as inspect shows it: links by the present names, "/target:/container/alias".
func ShownHost(rec *core.Record, find Finder) *container.HostConfig {
	if len(rec.HostConfig.Links) == 0 || rec.HostConfig.NetworkMode.IsUserDefined() {
		return rec.HostConfig
	}
	hc := *rec.HostConfig
	hc.Links = nil
	for _, l := range rec.HostConfig.Links {
		target, alias := ParseLink(l)
		if child, err := find(target); err == nil {
			hc.Links = append(hc.Links, "/"+child.Name+":/"+rec.Name+"/"+alias)
		}
	}
	return &hc
}

// Aliases are the names that containers have by others' links, "/parent/alias", by their IDs.
func Aliases(all []*core.Record, find Finder) map[string][]string {
	var names map[string][]string
	for _, rec := range all {
		if rec.HostConfig.NetworkMode.IsUserDefined() {
			continue
		}
		for _, l := range rec.HostConfig.Links {
			target, alias := ParseLink(l)
			child, err := find(target)
			if err != nil {
				continue
			}
			if names == nil {
				names = map[string][]string{}
			}
			names[child.ID] = append(names[child.ID], "/"+rec.Name+"/"+alias)
		}
	}
	return names
}

// Env is what a container learns of the other one.
func (l Link) Env() ([]string, error) {
	child := l.Child
	if !child.State.Live() || child.Run == nil {
		return nil, notRunning(child.Name, l.Name)
	}
	alias := strings.ReplaceAll(strings.ToUpper(path.Base(l.Name)), "-", "_")
	var env []string
	if e := child.Run.Endpoints[network.NetworkBridge]; e != nil && e.IPAddress.IsValid() {
		env = portEnv(alias, e.IPAddress, child.Config.ExposedPorts)
	}
	env = append(env, alias+"_NAME="+l.Name)
	for _, kv := range child.Config.Env {
		name, value, ok := strings.Cut(kv, "=")
		if ok && name != "HOME" && name != "PATH" { // they say nothing about the container
			env = append(env, alias+"_ENV_"+name+"="+value)
		}
	}
	return env, nil
}

func notRunning(child, link string) error {
	return fault.Invalid("Cannot link to a non running container: /%s AS %s", child, link)
}

// portEnv tells of the ports, lowest first and tcp before others; three or more in a row of one protocol are one group.
func portEnv(alias string, ip netip.Addr, exposed network.PortSet) []string {
	ports := make([]network.Port, 0, len(exposed))
	for p := range exposed {
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b network.Port) int {
		if a.Num() != b.Num() {
			return int(a.Num()) - int(b.Num())
		}
		return rank(a) - rank(b)
	})
	var env []string
	url := func(p network.Port) string { return fmt.Sprintf("%s://%s:%d", p.Proto(), ip, p.Num()) }
	for i := 0; i < len(ports); {
		p, last := ports[i], row(ports, i)
		if i == 0 {
			env = append(env, alias+"_PORT="+url(p))
		}
		prefix := func(p network.Port) string {
			return fmt.Sprintf("%s_PORT_%d_%s", alias, p.Num(), strings.ToUpper(string(p.Proto())))
		}
		if last > i+1 {
			q := ports[last]
			env = append(env,
				prefix(p)+"_START="+url(p), prefix(p)+"_ADDR="+ip.String(), prefix(p)+"_PROTO="+string(p.Proto()),
				fmt.Sprintf("%s_PORT_START=%d", prefix(p), p.Num()),
				prefix(q)+"_END="+url(q), fmt.Sprintf("%s_PORT_END=%d", prefix(q), q.Num()))
			i = last + 1
			continue
		}
		env = append(env, prefix(p)+"="+url(p), prefix(p)+"_ADDR="+ip.String(),
			fmt.Sprintf("%s_PORT=%d", prefix(p), p.Num()), prefix(p)+"_PROTO="+string(p.Proto()))
		i++
	}
	return env
}

func rank(p network.Port) int {
	if p.Proto() == network.TCP {
		return 0
	}
	return 1
}

// row is the last of the ports that follow each other from i on.
func row(ports []network.Port, i int) int {
	for i+1 < len(ports) && ports[i+1].Num() == ports[i].Num()+1 && ports[i+1].Proto() == ports[i].Proto() {
		i++
	}
	return i
}
