package build

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"longshore/internal/server/route"
	"longshore/internal/service/build/classic"
)

// service keeps what it was asked.
type service struct {
	got   classic.Request
	trace bool
}

func (s *service) Build(_ context.Context, r classic.Request, _ classic.Emit) error {
	s.got, s.trace = r, false
	return nil
}

func (s *service) Trace(_ context.Context, r classic.Request, _ classic.Emit) error {
	s.got, s.trace = r, true
	return nil
}

func ask(t testing.TB, query string, headers map[string]string, d route.Dialect) (*service, error) {
	t.Helper()
	hr := httptest.NewRequest("POST", "/build?"+query, strings.NewReader("body"))
	for k, v := range headers {
		hr.Header.Set(k, v)
	}
	s := &service{}
	resp, err := Routes(s)[0].Handle(t.Context(), &route.Request{HTTP: hr, Query: hr.URL.Query(), Dialect: d})
	if err != nil {
		return s, err
	}
	return s, resp.(route.Lines).Run(t.Context(), nil)
}

func TestParameters(t *testing.T) {
	auth := base64.URLEncoding.EncodeToString([]byte(`{"r:5000":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("u:p:q")) + `"}}`))
	s, err := ask(t, `t=a&t=b&dockerfile=df&q=1&nocache=1&pull=1&rm=0&buildargs={"A":"b","N":null}&labels={"l":"v"}&cachefrom=["c"]&target=t&platform=linux/arm64`+
		`&networkmode=host&shmsize=1&ulimits=[{"Name":"nofile","Soft":1,"Hard":2}]&memory=2&memswap=-1&cpushares=3&cpusetcpus=0&cpusetmems=1&cpuperiod=4&cpuquota=5&cgroupparent=/g`+
		`&extrahosts=a:1.2.3.4&extrahosts=b:5.6.7.8&squash=1&outputs=[{"Type":"tar","Attrs":{"dest":"x"}}]&remote=http://h/x&buildid=id&session=s`, map[string]string{"X-Registry-Config": auth}, route.Dialect{})
	if err != nil {
		t.Fatal(err)
	}
	r := s.got
	doc, err := json.Marshal(map[string]any{
		"names": r.Build.Output.Names, "squash": r.Build.Output.Squash, "out": r.Build.Output.Exporters, "run": r.Build.Run, "cache": r.Build.Cache, "args": r.Build.Args,
		"labels": r.Build.Labels, "platforms": r.Build.Platforms, "target": r.Build.Target, "id": r.Build.ID, "session": r.Build.Session, "auth": r.Build.Auth,
		"df": r.Source.Dockerfile, "remote": r.Source.Remote, "quiet": r.Quiet, "remove": r.Remove,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"args":{"A":"b","N":null},"auth":{"r:5000":{"username":"u","password":"p:q"}},"cache":{"None":true,"Pull":true,"From":[{"Type":"registry","Attrs":{"ref":"c"}}],"To":null},"df":"df","id":"id","labels":{"l":"v"},` +
		`"names":["a","b"],"out":[{"Type":"tar","Attrs":{"dest":"x"}}],"platforms":["linux/arm64"],"quiet":true,"remote":"http://h/x","remove":false,` +
		`"run":{"Network":"host","ExtraHosts":["a:1.2.3.4","b:5.6.7.8"],"Ulimits":[{"Name":"nofile","Hard":2,"Soft":1}],"ShmSize":1,"CgroupParent":"/g","Memory":2,"MemorySwap":-1,"CPUShares":3,"CPUPeriod":4,"CPUQuota":5,"CPUSetCPUs":"0","CPUSetMems":"1"},` +
		`"session":"s","squash":true,"target":"t"}`
	if string(doc) != want {
		t.Errorf("got\n%s\nwant\n%s", doc, want)
	}
}

func TestDefaults(t *testing.T) {
	s, err := ask(t, "", nil, route.Dialect{})
	if err != nil || !s.got.Remove || s.got.Quiet || s.trace || s.got.Source.Form != nil {
		t.Errorf("%+v %v", s, err)
	}
	if s, err = ask(t, "rm=0&forcerm=1&version=2", nil, route.Dialect{}); err != nil || !s.got.Remove || !s.trace {
		t.Errorf("%+v %v", s, err)
	}
	form := map[string]string{"Content-Type": "multipart/form-data; boundary=x"}
	if s, err = ask(t, "", form, route.Dialect{MultipartBuild: true}); err != nil || s.got.Source.Form == nil {
		t.Errorf("%+v %v", s, err)
	}
	if s, err = ask(t, "", form, route.Dialect{}); err != nil || s.got.Source.Form != nil {
		t.Errorf("a form of today is no context: %+v %v", s, err)
	}
}

func TestRefused(t *testing.T) {
	for _, q := range []string{"version=3", "isolation=x", "securityopt=x", "shmsize=x", "shmsize=-1", "ulimits=x", "buildargs=[]", "labels=3", "cachefrom={}", "outputs=x"} {
		if _, err := ask(t, q, nil, route.Dialect{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", q, err)
		}
	}
	if _, err := ask(t, "", map[string]string{"Content-Type": "multipart/form-data"}, route.Dialect{MultipartBuild: true}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

// FuzzRequest feeds any parameters and credentials: what makes no sense is refused or counts as none.
func FuzzRequest(f *testing.F) {
	f.Add("ulimits=[null]", "e30=")
	f.Add("buildargs={\"a\":null}&t=", "!!")
	f.Fuzz(func(t *testing.T, query, auth string) {
		hr := httptest.NewRequest("POST", "/build", nil)
		hr.URL.RawQuery = query
		hr.Header["X-Registry-Config"] = []string{auth}
		got, err := request(&route.Request{HTTP: hr, Query: hr.URL.Query()})
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Fatal(err)
		}
		for _, u := range got.Build.Run.Ulimits {
			if u == nil {
				t.Fatal("no limit")
			}
		}
	})
}
