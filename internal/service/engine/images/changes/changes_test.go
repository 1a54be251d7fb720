package changes

import (
	"encoding/json"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

func TestApply(t *testing.T) {
	cases := []struct {
		in   []string
		want string // JSON of the configuration's changed part
	}{
		{[]string{`CMD ["a","b"]`}, `{"Cmd":["a","b"]}`},
		{[]string{`CMD a b`}, `{"Cmd":["/bin/sh","-c","a b"]}`},
		{[]string{`cmd []`}, `{"Cmd":[]}`},
		{[]string{`ENTRYPOINT ["x"]`}, `{"Cmd":null,"Entrypoint":["x"]}`},
		{[]string{`CMD c`, `ENTRYPOINT ["x"]`}, `{"Cmd":["/bin/sh","-c","c"],"Entrypoint":["x"]}`},
		{[]string{`ENV A=1 B="2 3" C='$A' D=$A`}, `{"Env":["OLD=o","A=1","B=2 3","C=$A","D="]}`},
		{[]string{`ENV A hello world`, `ENV OLD=${OLD}x E=${NO:-d} F=${OLD:+p}`}, `{"Env":["OLD=ox","A=hello world","E=d","F=p"]}`},
		{[]string{"LABEL a=b \\\n c=\"d e\"\n# comment\nLABEL f g"}, `{"Labels":{"a":"b","c":"d e","f":"g"}}`},
		{[]string{`EXPOSE 80 53/udp 90-91`}, `{"ExposedPorts":{"53/udp":{},"80/tcp":{},"90/tcp":{},"91/tcp":{}}}`},
		{[]string{`USER me`, `WORKDIR /a`, `WORKDIR b`}, `{"User":"me","WorkingDir":"/a/b"}`},
		{[]string{`VOLUME /a /b`, `VOLUME ["/c"]`}, `{"Volumes":{"/a":{},"/b":{},"/c":{}}}`},
		{[]string{`ONBUILD RUN x`, `STOPSIGNAL SIGINT`}, `{"OnBuild":["RUN x"],"StopSignal":"SIGINT"}`},
		{[]string{`HEALTHCHECK --interval=5s --retries=3 CMD true`}, `{"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000,"Retries":3}}`},
		{[]string{`HEALTHCHECK NONE`}, `{"Healthcheck":{"Test":["NONE"]}}`},
		{[]string{`MAINTAINER me`, ``}, `{}`},
	}
	for _, c := range cases {
		base := container.Config{Cmd: []string{"old"}, Env: []string{"OLD=o"}}
		got := base
		if err := Apply(&got, c.in); err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		var want container.Config = base
		if err := json.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatal(err)
		}
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		if string(g) != string(w) {
			t.Errorf("%q\n got %s\nwant %s", c.in, g, w)
		}
	}
}

func TestApplyErrors(t *testing.T) {
	for in, want := range map[string]string{
		"RUN x": "run is not a valid change command", "FROM a": "from is not a valid change command", "NOPE x": "dockerfile parse error: unknown instruction: NOPE",
		"ENV": "ENV requires at least one argument", "ENV A": "ENV must have two arguments", `ENV A="x`: "unexpected end of statement while looking for matching double-quote",
		"EXPOSE x": "invalid containerPort: x", "STOPSIGNAL nope": "invalid signal: nope", "ONBUILD FROM x": "FROM isn't allowed as an ONBUILD trigger",
		"ENV A=1 B": `Syntax error - can't find = in "B". Must be of the form: name=value`, "HEALTHCHECK what": `Unknown type "WHAT" in HEALTHCHECK (try CMD)`,
		"VOLUME [\"\"]": "VOLUME specified can not be an empty string", "USER a b": "USER requires exactly one argument", "ENV A=${": "syntax error: missing '}'",
	} {
		err := Apply(&container.Config{}, []string{in})
		if !errdefs.IsInvalidArgument(err) || err.Error() != want {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

// FuzzApply looks for panics and for errors that are not the client's.
func FuzzApply(f *testing.F) {
	for _, s := range []string{"ENV A=1", "CMD [\"a\"]", "LABEL a=\"b\\\"\"", "EXPOSE 1-9", "HEALTHCHECK --interval=1s CMD x", "ENV A=${B:-c}", "\\\n", "ONBUILD ONBUILD x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if err := Apply(&container.Config{}, []string{s}); err != nil && !errdefs.IsInvalidArgument(err) {
			t.Fatalf("class of %v", err)
		}
	})
}
