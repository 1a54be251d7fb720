package networks

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/network"
	"longshore/internal/server/httperr"
	"longshore/internal/service/engine/networks/filter"
)

func subnet(s string) *mobynet.IPAM {
	return &mobynet.IPAM{Config: []mobynet.IPAMConfig{{Subnet: netip.MustParsePrefix(s)}}}
}

func TestCreateRefuses(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	w.create(s, mobynet.CreateRequest{Name: "app", IPAM: subnet("10.5.0.0/16"), Options: map[string]string{network.OptName: "app0"}})
	w.create(s, mobynet.CreateRequest{Name: "conf", ConfigOnly: true, IPAM: subnet("10.8.0.0/24")})
	no, yes := false, true
	for _, c := range []struct {
		r      mobynet.CreateRequest
		status int
		text   string
	}{
		{mobynet.CreateRequest{Name: "app"}, 409, "network with name app already exists"},
		{mobynet.CreateRequest{Name: " "}, 400, "invalid name: name is empty"},
		{mobynet.CreateRequest{Name: "bridge"}, 403, "operation is not permitted on predefined bridge network "},
		{mobynet.CreateRequest{Name: "x", Driver: "nonsense"}, 404, `plugin "nonsense" not found`},
		{mobynet.CreateRequest{Name: "x", Driver: "host"}, 403, `only one instance of "host" network is allowed`},
		{mobynet.CreateRequest{Name: "x", Driver: "overlay"}, 403, `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`},
		{mobynet.CreateRequest{Name: "x", Scope: "swarm"}, 403, "cannot create a swarm scoped network when swarm is not active"},
		{mobynet.CreateRequest{Name: "x", IPAM: subnet("10.5.1.0/24")}, 403, "invalid pool request: Pool overlaps with other one on this address space"},
		{mobynet.CreateRequest{Name: "x", IPAM: subnet("10.6.0.1/16")}, 400, "invalid network config:\ninvalid subnet 10.6.0.1/16: it should be 10.6.0.0/16"},
		{mobynet.CreateRequest{Name: "x", IPAM: &mobynet.IPAM{Driver: "dhcp"}}, 400, `invalid ipam driver: "dhcp"`},
		{mobynet.CreateRequest{Name: "x", EnableIPv4: &no}, 400, "IPv4 or IPv6 must be enabled"},
		{mobynet.CreateRequest{Name: "x", Options: map[string]string{network.OptMTU: "big"}}, 400, `failed to parse com.docker.network.driver.mtu value: big (strconv.Atoi: parsing "big": invalid syntax)`},
		{mobynet.CreateRequest{Name: "x", Options: map[string]string{network.OptICC: "maybe"}}, 400, `failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing "maybe": invalid syntax)`},
		{mobynet.CreateRequest{Name: "x", Options: map[string]string{network.OptIPv6: "?"}}, 400, `driver-opt "com.docker.network.enable_ipv6" is not a valid bool`},
		{mobynet.CreateRequest{Name: "x", Options: map[string]string{network.OptName: "app0"}}, 403, "networks have same bridge name"},
		{mobynet.CreateRequest{Name: "x", Options: map[string]string{network.OptName: "a/b"}}, 400, `invalid bridge name: "a/b"`},
		{mobynet.CreateRequest{Name: "x", ConfigOnly: true, Internal: true}, 403, "configuration network can only contain network specific fields."},
		{mobynet.CreateRequest{Name: "x", ConfigFrom: &mobynet.ConfigReference{Network: "nope"}}, 404, `configuration network "nope" does not exist`},
		{mobynet.CreateRequest{Name: "x", ConfigFrom: &mobynet.ConfigReference{Network: "conf"}, EnableIPv6: &yes}, 403, "user specified configurations are not supported if the network depends on a configuration network"},
	} {
		_, err := s.Create(context.Background(), c.r)
		if err == nil || !strings.Contains(err.Error(), c.text) || httperr.Status(err) != c.status {
			t.Errorf("%+v: %v, want %d %s", c.r, err, c.status, c.text)
		}
	}
	if n := len(s.nets.all()); n != 5 {
		t.Errorf("%d networks", n)
	}
	w.create(s, mobynet.CreateRequest{Name: "from", ConfigFrom: &mobynet.ConfigReference{Network: "conf"}})
	if v, err := s.Inspect(context.Background(), "from", ""); err != nil || v.IPAM.Config[0].Gateway.String() != "10.8.0.1" || v.ConfigFrom.Network != "conf" {
		t.Errorf("%+v %v", v, err)
	}
	if err := s.Remove(context.Background(), "conf"); err == nil || err.Error() != `error while removing network: configuration network "conf" is in use` {
		t.Error(err)
	}
}

func TestDefaultNetworks(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	ctx := context.Background()
	v, err := s.Inspect(ctx, "bridge", "local")
	if err != nil {
		t.Fatal(err)
	}
	if v.Driver != "bridge" || v.Scope != "local" || v.IPAM.Driver != "default" || v.IPAM.Config[0].Subnet.String() != "172.17.0.0/16" ||
		v.Options["com.docker.network.bridge.name"] != "docker0" || v.Options["com.docker.network.bridge.default_bridge"] != "true" ||
		v.Options["com.docker.network.driver.mtu"] != "1500" || !v.EnableIPv4 || v.EnableIPv6 {
		t.Errorf("%+v", v)
	}
	all, err := s.List(ctx, nil)
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	for _, n := range []string{"bridge", "host", "none"} {
		if err := s.Remove(ctx, n); err == nil || err.Error() != n+" is a pre-defined network and cannot be removed" || httperr.Status(err) != 403 {
			t.Error(err)
		}
	}
	if err := s.Remove(ctx, "nope"); err == nil || err.Error() != "network nope not found" || httperr.Status(err) != 404 {
		t.Error(err)
	}
	next := w.start()
	if again, err := next.Inspect(ctx, v.ID[:10], ""); err != nil || again.ID != v.ID || !again.Created.Equal(v.Created) {
		t.Errorf("%+v %v", again, err)
	}
	other := w.daemon(func(c *Config) {
		c.BIP = netip.MustParsePrefix("10.50.0.9/24")
		c.FixedCIDR = netip.MustParsePrefix("10.50.0.128/25")
	})
	if err := other.Restore(ctx, nil); err != nil {
		t.Fatal(err)
	}
	box := w.open(other, "c", nil)
	if e := box.Endpoints["bridge"]; e.Gateway.String() != "10.50.0.9" || e.IPAddress.String() != "10.50.0.128" {
		t.Errorf("%+v", e)
	}
}

func names(all []mobynet.Inspect) string {
	var out []string
	for _, n := range all {
		out = append(out, n.Name)
	}
	return strings.Join(out, " ")
}

func TestListAndPrune(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	ctx := context.Background()
	w.create(s, mobynet.CreateRequest{Name: "one", Labels: map[string]string{"a": "1", "b": ""}})
	w.create(s, mobynet.CreateRequest{Name: "two", Labels: map[string]string{"a": "2"}})
	w.create(s, mobynet.CreateRequest{Name: "used"})
	w.open(s, "c", func(r *network.Request) { r.Mode = "used" })
	for filter, want := range map[string]string{
		"driver=bridge": "bridge one two used", "driver=null": "none", "name=o": "host none one two", "name=^two$": "two", "label=a": "one two", "label=a=2": "two",
		"label=b": "one", "scope=swarm": "", "type=custom": "one two used", "type=builtin": "bridge host none",
		"dangling=true": "one two", "dangling=0": "bridge host none used", "name=[": "", "id=" + s.nets.byName("one").rec.ID[:8]: "one",
	} {
		k, v, _ := strings.Cut(filter, "=")
		got, err := s.List(ctx, Filters{k: {v}})
		if err != nil || names(got) != want {
			t.Errorf("%s: %q %v, want %q", filter, names(got), err, want)
		}
	}
	for _, f := range []Filters{{"x": {"1"}}, {"type": {"x"}}, {"dangling": {"x"}}, {"dangling": {"1", "0"}}} {
		if _, err := s.List(ctx, f); err == nil || httperr.Status(err) != 400 {
			t.Errorf("%v: %v", f, err)
		}
	}
	w.events.take()
	for _, c := range []struct {
		f    Filters
		want string
	}{
		{Filters{"until": {"1h"}}, ""}, {Filters{"label": {"a=2"}}, "two"}, {Filters{"label!": {"a"}}, ""}, {nil, "one"}, {nil, ""},
	} {
		got, err := s.Prune(ctx, c.f)
		if err != nil || strings.Join(got.NetworksDeleted, " ") != c.want {
			t.Errorf("%v: %v %v, want %s", c.f, got, err, c.want)
		}
	}
	if _, err := s.Prune(ctx, Filters{"name": {"x"}}); err == nil || httperr.Status(err) != 400 {
		t.Error(err)
	}
	if got := w.events.take(); !slices.Equal(got[:3], []string{"prune ", "destroy two", "prune "}) {
		t.Errorf("%q", got)
	}
	if links := sh(t, "", "ip -o link"); strings.Count(links, "alias longshore") != 2 {
		t.Error(links)
	}
}

func TestPruneLimit(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"90m": now.Add(-90 * time.Minute), "1000": time.Unix(1000, 0), "1000.5": time.Unix(1000, 5e8),
		"2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "2026-01-02": time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local),
	} {
		if got, err := filter.Until([]string{in}, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "x", "1.x"} {
		if got, err := filter.Until([]string{in}, now); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestInspectShowsContainers(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	w.create(s, mobynet.CreateRequest{Name: "app", IPAM: subnet("10.5.0.0/29")})
	w.open(s, "c", func(r *network.Request) { r.Mode = "app" })
	v, err := s.Inspect(context.Background(), "app", "")
	if err != nil {
		t.Fatal(err)
	}
	c := v.Containers[containerID("c")]
	if c.Name != "c" || c.IPv4Address.String() != "10.5.0.2/29" || c.MacAddress.String() != "02:42:0a:05:00:02" || len(c.EndpointID) != 64 {
		t.Errorf("%+v", c)
	}
	st := v.Status.IPAM.Subnets[netip.MustParsePrefix("10.5.0.0/29")]
	if st.IPsInUse != 4 || st.DynamicIPsAvailable != 4 {
		t.Errorf("%+v", st)
	}
	if _, err := s.Inspect(context.Background(), "app", "swarm"); err == nil {
		t.Error("found in another scope")
	}
}

func TestOpenRefuses(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	ctx := context.Background()
	w.create(s, mobynet.CreateRequest{Name: "tiny", IPAM: subnet("10.5.0.0/30")})
	w.create(s, mobynet.CreateRequest{Name: "auto"})
	tcp := mobynet.MustParsePort("80/tcp")
	w.open(s, "first", func(r *network.Request) {
		r.Mode = "tiny"
		r.Bindings = mobynet.PortMap{tcp: bind("", "8080")}
	})
	serve(t, "", "host", 8090)
	ipam := func(a string) map[string]*mobynet.EndpointSettings {
		e := &mobynet.EndpointSettings{IPAMConfig: &mobynet.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr(a)}}
		return map[string]*mobynet.EndpointSettings{"tiny": e, "auto": e, "bridge": e}
	}
	for _, c := range []struct {
		mode   string
		ip     string
		ports  mobynet.PortMap
		status int
		text   string
	}{
		{"nope", "", nil, 404, "^network nope not found$"},
		{"tiny", "", nil, 500, `^no available IPv4 addresses on this network's address pools: tiny \([0-9a-f]{64}\)$`},
		{"tiny", "10.5.0.2", nil, 403, "^Address already in use$"},
		{"tiny", "10.5.0.99", nil, 400, "^invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.5.0.99$"},
		{"bridge", "172.17.0.9", nil, 400, "^invalid endpoint settings:\nuser specified IP address is supported on user defined networks only$"},
		{"default", "", mobynet.PortMap{tcp: bind("", "8080")}, 500, `^driver failed programming external connectivity on endpoint second \([0-9a-f]{64}\): Bind for 0.0.0.0:8080 failed: port is already allocated$`},
		{"default", "", mobynet.PortMap{tcp: bind("127.0.0.1", "8080")}, 500, `: Bind for 127.0.0.1:8080 failed: port is already allocated$`},
		{"default", "", mobynet.PortMap{tcp: bind("", "8090")}, 500, `: failed to bind host port for 0.0.0.0:8090:172.17.0.\d+:80/tcp: address already in use$`},
		{"default", "", mobynet.PortMap{tcp: bind("9.9.9.9", "8091")}, 500, `: failed to bind host port for 9.9.9.9:8091:172.17.0.\d+:80/tcp: cannot assign requested address$`},
		{"default", "", mobynet.PortMap{tcp: bind("", "8090-8090")}, 500, `address already in use$`},
		{"default", "", mobynet.PortMap{tcp: bind("", "x")}, 400, `^invalid port specification: "x"$`},
		{"default", "", mobynet.PortMap{tcp: bind("", "90-80")}, 400, `^invalid port specification: "90-80"$`},
	} {
		r := network.Request{ContainerID: containerID("second"), Name: "second", Mode: c.mode, Bindings: c.ports}
		if c.ip != "" {
			r.Endpoints = map[string]*mobynet.EndpointSettings{c.mode: ipam(c.ip)[c.mode]}
		}
		_, err := s.Open(ctx, r)
		if err == nil || !regexp.MustCompile(c.text).MatchString(err.Error()) || httperr.Status(err) != c.status {
			t.Errorf("%s %s %v: %v (%d)", c.mode, c.ip, c.ports, err, httperr.Status(err))
		}
		if s.boxes.get(r.ContainerID) != nil {
			t.Error("a sandbox stays")
		}
	}
	if paths, _ := s.leftNamespaces(); len(paths) != 1 {
		t.Errorf("namespaces: %v", paths)
	}
	if n := s.nets.byName("bridge"); len(n.endpoints) != 0 {
		t.Errorf("endpoints: %v", n.endpoints)
	}
}
