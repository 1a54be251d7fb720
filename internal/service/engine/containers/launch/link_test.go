package launch

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	core "longshore/internal/core/container"
)

func linked(ports ...string) *core.Record {
	set := network.PortSet{}
	for _, p := range ports {
		set[network.MustParsePort(p)] = struct{}{}
	}
	return &core.Record{
		Name: "database", State: core.State{Phase: core.Running, PID: 1},
		Config: &container.Config{ExposedPorts: set, Env: []string{"PASSWORD=gordon", "PATH=/bin", "HOME=/root", "BARE"}},
		Run:    &core.Run{Endpoints: map[string]*network.EndpointSettings{"bridge": {IPAddress: netip.MustParseAddr("172.17.0.3")}}},
	}
}

func TestLinkEnv(t *testing.T) {
	for _, x := range []struct {
		ports []string
		want  []string
	}{
		{nil, nil},
		{[]string{"6379/tcp"}, []string{
			"MY_DB_PORT=tcp://172.17.0.3:6379", "MY_DB_PORT_6379_TCP=tcp://172.17.0.3:6379", "MY_DB_PORT_6379_TCP_ADDR=172.17.0.3",
			"MY_DB_PORT_6379_TCP_PORT=6379", "MY_DB_PORT_6379_TCP_PROTO=tcp"}},
		{[]string{"53/udp", "53/tcp"}, []string{
			"MY_DB_PORT=tcp://172.17.0.3:53", "MY_DB_PORT_53_TCP=tcp://172.17.0.3:53", "MY_DB_PORT_53_TCP_ADDR=172.17.0.3",
			"MY_DB_PORT_53_TCP_PORT=53", "MY_DB_PORT_53_TCP_PROTO=tcp",
			"MY_DB_PORT_53_UDP=udp://172.17.0.3:53", "MY_DB_PORT_53_UDP_ADDR=172.17.0.3", "MY_DB_PORT_53_UDP_PORT=53", "MY_DB_PORT_53_UDP_PROTO=udp"}},
		{[]string{"6379/tcp", "6380/tcp", "6381/tcp", "9000/tcp"}, []string{
			"MY_DB_PORT=tcp://172.17.0.3:6379", "MY_DB_PORT_6379_TCP_START=tcp://172.17.0.3:6379", "MY_DB_PORT_6379_TCP_ADDR=172.17.0.3",
			"MY_DB_PORT_6379_TCP_PROTO=tcp", "MY_DB_PORT_6379_TCP_PORT_START=6379", "MY_DB_PORT_6381_TCP_END=tcp://172.17.0.3:6381",
			"MY_DB_PORT_6381_TCP_PORT_END=6381", "MY_DB_PORT_9000_TCP=tcp://172.17.0.3:9000", "MY_DB_PORT_9000_TCP_ADDR=172.17.0.3",
			"MY_DB_PORT_9000_TCP_PORT=9000", "MY_DB_PORT_9000_TCP_PROTO=tcp"}},
	} {
		got, err := Link{Name: "/web/my-db", Child: linked(x.ports...)}.Env()
		if err != nil {
			t.Fatal(err)
		}
		if want := append(x.want, "MY_DB_NAME=/web/my-db", "MY_DB_ENV_PASSWORD=gordon"); !slices.Equal(got, want) {
			t.Errorf("%v:\n%v\nwant\n%v", x.ports, got, want)
		}
	}
}

func TestLinkToOneThatDoesNotRun(t *testing.T) {
	c := linked()
	c.State.Phase = core.Exited
	_, err := Link{Name: "/web/db", Child: c}.Env()
	if err == nil || err.Error() != "Cannot link to a non running container: /database AS /web/db" {
		t.Error(err)
	}
}

func TestParseLink(t *testing.T) {
	for in, want := range map[string][2]string{
		"db": {"db", "db"}, "db:x": {"db", "x"}, "/db:/web/x": {"db", "x"}, "db:": {"db", "db"},
	} {
		if target, alias := ParseLink(in); target != want[0] || alias != want[1] {
			t.Errorf("%s: %s %s", in, target, alias)
		}
	}
}
