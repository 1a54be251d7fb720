package accounts

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"longshore/internal/boot/registryboot"
	"longshore/internal/boot/registryboot/registrytest"
	"longshore/internal/service/auth/oauth"
	"longshore/test/harness"
)

// process is a registry in a process of its own, which may be killed.
type process struct {
	*registrytest.Registry
	cmd *exec.Cmd
}

// spawn starts the program on the configuration in dir and waits until it answers.
func spawn(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{Registry: &registrytest.Registry{Dir: dir, Config: filepath.Join(dir, "config.json"), Scheme: "http", Client: &http.Client{Transport: &http.Transport{}}}}
	p.cmd = exec.Command(harness.Bin("longshore"), "registry", "serve", p.Config)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	found := make(chan string, 1)
	go func() {
		defer close(found)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), `"registry is listening"`); ok {
				_, rest, _ = strings.Cut(rest, `"address":"`)
				address, _, _ := strings.Cut(rest, `"`)
				found <- address
			}
		}
	}()
	select {
	case p.Addr = <-found:
	case <-time.After(30 * time.Second):
	}
	if p.Addr == "" {
		t.Fatal("the registry does not listen")
	}
	return p
}

func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
	p.Client.CloseIdleConnections()
}

// fact is something that a user was told.
type fact struct{ user, value string }

// told is what clients were told: addresses and access tokens that are there, refresh tokens that are used up.
type told struct {
	mu                   sync.Mutex
	emails, access, used []fact
}

func (o *told) note(list *[]fact, user, value string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*list = append(*list, fact{user, value})
}

// TestKilled kills the registry in the midst of its work, again and again: what somebody was told is there is there, and
// what was used up stays so.
func TestKilled(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(harness.Bin("longshore")); err != nil {
		t.Skip("bin/longshore is missing: run make build first")
	}
	dir := t.TempDir()
	registrytest.Write(t, filepath.Join(dir, "config.json"), strings.ReplaceAll(people, "DIR", dir))
	p := spawn(t, dir)
	names := []string{"user0", "user1", "user2"}
	add(t, p.Registry, names...)
	app := register(t, p.Registry, oauth.NewClient{})
	for round := range 4 {
		var all told
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		for i, name := range names {
			refresh := firstRefresh(t, p.Registry, app, name)
			wg.Go(func() {
				for n := 0; ctx.Err() == nil && n < 40; n++ { // nobody may have more than 50 addresses
					refresh = all.work(p, app, name, refresh, fmt.Sprintf("r%d.%d.%d@example.com", round, i, n))
				}
			})
		}
		harness.Eventually(t, 30*time.Second, "work is done", func() bool {
			all.mu.Lock()
			defer all.mu.Unlock()
			return len(all.emails) >= 12
		})
		_ = p.cmd.Process.Kill() // in the midst of it
		stop()
		wg.Wait()
		p.kill()
		p = spawn(t, dir)
		all.check(t, p, app, names)
	}
}

// firstRefresh gives a refresh token for a user's account.
func firstRefresh(t *testing.T, r *registrytest.Registry, app application, user string) string {
	t.Helper()
	var out string
	administer(t, r, func(p *registryboot.People) error {
		a, err := p.OAuth.Check(t.Context(), oauth.Request{ClientID: app.id, ResponseType: "code"})
		if err != nil {
			return err
		}
		code, err := p.OAuth.Agree(t.Context(), a, user)
		if err != nil {
			return err
		}
		tokens, err := p.OAuth.Exchange(t.Context(), oauth.ClientCredentials{ID: app.id, Secret: app.secret}, oauth.Exchange{Code: code})
		out = tokens.Refresh
		return err
	})
	return out
}

// work adds an address and refreshes a token, and notes what it was told.
func (o *told) work(p *process, app application, user, refresh, address string) string {
	post := func(path, kind, body, name, secret string) (int, string) {
		req, err := http.NewRequest("POST", p.URL(path), strings.NewReader(body))
		if err != nil {
			return 0, ""
		}
		req.Header.Set("Content-Type", kind)
		req.SetBasicAuth(name, secret)
		resp, err := p.Client.Do(req)
		if err != nil {
			return 0, ""
		}
		defer resp.Body.Close() //nolint:errcheck // read to its end
		var b strings.Builder
		if _, err := bufio.NewReader(resp.Body).WriteTo(&b); err != nil {
			return 0, ""
		}
		return resp.StatusCode, b.String()
	}
	if code, _ := post("/api/v1.1/users/"+user+"/emails/", "application/json", `{"email":"`+address+`"}`, user, password); code == 201 {
		o.note(&o.emails, user, address)
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}.Encode()
	code, text := post("/api/v1.1/o/token/", "application/x-www-form-urlencoded", form, app.id, app.secret)
	if code != 200 {
		return refresh
	}
	var tokens tokenAnswer
	if json.Unmarshal([]byte(text), &tokens) != nil {
		return refresh
	}
	o.note(&o.access, user, tokens.AccessToken)
	o.note(&o.used, user, refresh)
	return tokens.RefreshToken
}

func (o *told) check(t *testing.T, p *process, app application, names []string) {
	t.Helper()
	have := map[fact]bool{}
	for _, n := range names {
		for _, e := range into[[]struct{ Email string }](t, p.Do(t, "GET", "/api/v1.1/users/"+n+"/emails/", nil, registrytest.Basic(n, password)), 200) {
			have[fact{n, e.Email}] = true
		}
	}
	for _, e := range o.emails {
		if !have[e] {
			t.Errorf("%v was told to be there and is not", e)
		}
	}
	for _, a := range o.access {
		status(t, p.Do(t, "GET", "/api/v1.1/users/"+a.user+"/emails/", nil, bearer(a.value)), 200)
	}
	for _, u := range o.used {
		status(t, app.exchange(t, p.Registry, "grant_type", "refresh_token", "refresh_token", u.value), 400)
	}
	administer(t, p.Registry, func(x *registryboot.People) error { // room for the next round, beside the registry that runs
		for e := range have {
			if !strings.HasPrefix(e.value, e.user) {
				if err := x.Accounts.DeleteEmail(t.Context(), e.user, e.value); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
