package accounts

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"longshore/internal/boot/registryboot/registrytest"
	"longshore/internal/service/auth/oauth"
)

// chromium opens an empty browser window. What the browser complains about, such as a broken content security policy, is
// in complaints.
func chromium(t *testing.T) (ctx context.Context, complaints func() []string) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed: scripts/setup.sh test")
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1000, 800),
		chromedp.WSURLReadTimeout(time.Minute),
	}
	for _, f := range []string{
		"headless", "no-sandbox", "disable-gpu", "disable-quic", "disable-background-networking", "disable-component-update",
		"disable-sync", "disable-dev-shm-usage", "disable-extensions", "hide-scrollbars",
	} {
		options = append(options, chromedp.Flag(f, true))
	}
	limited, cancelLimit := context.WithTimeout(context.Background(), 2*time.Minute)
	allocator, cancelAllocator := chromedp.NewExecAllocator(limited, options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // closes the browser and waits for it
		cancel()
		cancelAllocator()
		cancelLimit()
	})
	var mu sync.Mutex
	var lines []string
	run(t, ctx, chromedp.Navigate("about:blank"))
	err = chromedp.Listen(ctx, func(ev any) {
		if e, ok := ev.(*log.EventEntryAdded); ok {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, e.Entry.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, log.Enable, cdp.Empty{})
		return err
	}))
	return ctx, func() []string {
		mu.Lock()
		defer mu.Unlock()
		out := lines
		lines = nil
		return out
	}
}

// shot keeps a picture of the page where SCREENSHOTS says so.
func shot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, ctx context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// eval gives what an expression is in the page.
func eval[T any](t *testing.T, ctx context.Context, expression string) (v T) {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// myApp is the application on another origin: it keeps the answers that it is sent.
type myApp struct {
	*httptest.Server
	answers chan url.Values
	// page is what it shows under /page.
	page string
}

func newApp(t *testing.T) *myApp {
	t.Helper()
	a := &myApp{answers: make(chan url.Values, 10)}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/done":
			a.answers <- r.URL.Query()
			fmt.Fprint(w, `<html><link rel="icon" href="data:,"><title>App</title><h1 id="done">Back</h1>`)
		case "/page":
			fmt.Fprint(w, a.page)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *myApp) answer(t *testing.T) url.Values {
	t.Helper()
	select {
	case q := <-a.answers:
		return q
	case <-time.After(30 * time.Second):
		t.Fatal("the application got no answer")
		return nil
	}
}

// accessible finds what somebody without eyes or mouse would miss: fields without labels, buttons without names, a page
// without language, title, main part or heading.
const accessible = `(() => {
	const wrong = [];
	if (!document.documentElement.lang) wrong.push("no language");
	if (!document.title) wrong.push("no title");
	if (document.querySelectorAll("main").length !== 1) wrong.push("no main");
	if (document.querySelectorAll("h1").length !== 1) wrong.push("no heading");
	for (const i of document.querySelectorAll("input:not([type=hidden])")) if (!i.labels.length || !i.autocomplete) wrong.push("input " + i.name);
	for (const b of document.querySelectorAll("button")) {
		if (!(b.getAttribute("aria-label") || b.textContent.trim())) wrong.push("button");
		if (b.tabIndex < 0) wrong.push("button out of reach");
	}
	for (const e of document.querySelectorAll("[aria-describedby]")) if (!document.getElementById(e.getAttribute("aria-describedby"))) wrong.push("describedby");
	return wrong.join(", ");
})()`

// contrast is the least contrast between text and what is behind it (WCAG 2), of all texts on the page.
const contrast = `(() => {
	const parse = c => { const m = c.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
	const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
		return .2126 * r + .7152 * g + .0722 * b; };
	let least = 21;
	for (const e of document.querySelectorAll("p, h1, h2, label, li, button, code, strong, span")) {
		if (!e.textContent.trim()) continue;
		let back = e;
		while (back && parse(getComputedStyle(back).backgroundColor)[3] === 0) back = back.parentElement;
		const a = light(parse(getComputedStyle(e).color)), b = light(back ? parse(getComputedStyle(back).backgroundColor) : [255, 255, 255]);
		least = Math.min(least, (Math.max(a, b) + .05) / (Math.min(a, b) + .05));
	}
	return least;
})()`

func checkPage(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	shot(t, ctx, name)
	if wrong := eval[string](t, ctx, accessible); wrong != "" {
		t.Errorf("%s: %s", name, wrong)
	}
	for _, scheme := range []string{"light", "dark"} {
		run(t, ctx, emulate(scheme))
		if scheme == "dark" {
			shot(t, ctx, name+"-dark")
		}
		if least := eval[float64](t, ctx, contrast); least < 4.5 {
			t.Errorf("%s, %s: contrast %.2f", name, scheme, least)
		}
	}
	run(t, ctx, emulate("light"))
}

// TestBrowser logs in and agrees as people do, by keyboard alone.
func TestBrowser(t *testing.T) {
	ctx, complaints := chromium(t)
	r := registrytest.Start(t, `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0", "auth": {"accounts": {}}}}`)
	add(t, r, "janedoe")
	app := newApp(t)
	a := register(t, r, oauth.NewClient{Description: "Shows who you are.", RedirectURIs: []string{app.URL + "/done"}})
	ask := func(scope string) string {
		return r.URL(a.ask("redirect_uri", app.URL+"/done", "scope", scope))
	}

	// Log in: the first field has the focus, a mistake is told and described, Enter sends.
	run(t, ctx, chromedp.Navigate(ask("profile_read email_write")), chromedp.WaitVisible("#username"))
	checkPage(t, ctx, "login")
	if id := eval[string](t, ctx, `document.activeElement.id`); id != "username" {
		t.Errorf("the focus is on %q", id)
	}
	run(t, ctx, chromedp.KeyEvent("janedoe"+kb.Tab+"wrong"+kb.Enter), chromedp.WaitVisible("#problem"))
	checkPage(t, ctx, "login-failed")
	if got := eval[string](t, ctx, `document.title + "|" + document.activeElement.id + "|" + username.value + "|" + password.value + "|" + problem.getAttribute("role")`); got != "Error: Log in – Longshore|password|janedoe||alert" {
		t.Error(got)
	}
	run(t, ctx, chromedp.KeyEvent(password+kb.Enter), chromedp.WaitVisible(`button[value="allow"]`))

	// Agree: what is asked for is told; the first button by Tab is Allow.
	checkPage(t, ctx, "consent")
	text := eval[string](t, ctx, `document.querySelector("main").innerText`)
	for _, want := range []string{"TestClient", "Shows who you are.", "janedoe", "See your profile", "Add, change and remove your e-mail addresses", strings.TrimPrefix(app.URL, "http://")} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not tell %q:\n%s", want, text)
		}
	}
	run(t, ctx, chromedp.KeyEvent(kb.Tab))
	if got := eval[string](t, ctx, `document.activeElement.value + "|" + getComputedStyle(document.activeElement).outlineStyle`); got != "allow|solid" {
		t.Errorf("the focus is on %q", got)
	}
	run(t, ctx, chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("#done"))
	q := app.answer(t)
	if q.Get("state") != "abc123" || q.Get("code") == "" {
		t.Fatalf("%v", q)
	}
	tokens := into[tokenAnswer](t, a.exchange(t, r, "grant_type", "authorization_code", "code", q.Get("code"), "redirect_uri", app.URL+"/done"), 200)

	// Deny: the session is still there.
	run(t, ctx, chromedp.Navigate(ask("email_read")), chromedp.WaitVisible(`button[value="deny"]`), chromedp.Click(`button[value="deny"]`), chromedp.WaitVisible("#done"))
	if q := app.answer(t); q.Get("error") != "access_denied" || q.Get("code") != "" {
		t.Errorf("%v", q)
	}

	// Withdraw, and log out.
	run(t, ctx, chromedp.Navigate(r.URL("/api/v1.1/o/applications/")), chromedp.WaitVisible("button.danger"))
	checkPage(t, ctx, "applications")
	run(t, ctx, chromedp.Click("button.danger"), chromedp.WaitNotPresent("button.danger"), chromedp.WaitVisible("h1"))
	status(t, r.Do(t, "GET", "/api/v1.1/users/janedoe/", nil, bearer(tokens.AccessToken)), 401)
	run(t, ctx, chromedp.Click("button.link"), chromedp.WaitVisible("#username"))
	if c := browserComplaints(complaints()); len(c) > 0 {
		t.Errorf("the browser complains: %q", c)
	}
	run(t, ctx, chromedp.Navigate(r.URL(a.ask("redirect_uri", "https://evil.example/"))), chromedp.WaitVisible(`[role="alert"]`))
	checkPage(t, ctx, "refused")
}

// browserComplaints leaves out answers with an error status, which are meant.
func browserComplaints(lines []string) (out []string) {
	for _, l := range lines {
		if !strings.HasPrefix(l, "Failed to load resource: the server responded with a status of 4") {
			out = append(out, l)
		}
	}
	return out
}

// TestBrowserAgainstForeignPages: a page of another site cannot show ours in a frame, nor send our forms.
func TestBrowserAgainstForeignPages(t *testing.T) {
	ctx, complaints := chromium(t)
	r := registrytest.Start(t, `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0", "auth": {"accounts": {}}}}`)
	add(t, r, "janedoe")
	app := newApp(t)
	a := register(t, r, oauth.NewClient{RedirectURIs: []string{app.URL + "/done"}})
	target := r.URL(a.ask("redirect_uri", app.URL+"/done"))
	run(t, ctx, chromedp.Navigate(target), chromedp.WaitVisible("#username"), chromedp.SendKeys("#username", "janedoe"),
		chromedp.SendKeys("#password", password+kb.Enter), chromedp.WaitVisible(`button[value="allow"]`))
	seal := eval[string](t, ctx, `document.querySelector("main form input[name=seal]").value`)
	complaints()

	evil := strings.Replace(app.URL, "127.0.0.1", "localhost", 1) + "/page" // another site, not only another port
	app.page = `<link rel="icon" href="data:,"><iframe src="` + target + `"></iframe><h1 id="framed">x</h1>`
	run(t, ctx, chromedp.Navigate(evil), chromedp.WaitVisible("#framed"))
	registrytest.Eventually(t, "the frame is refused", func() bool {
		return strings.Contains(strings.Join(complaints(), "\n"), "frame-ancestors")
	})
	// Even who knows the seal cannot use it from another site.
	app.page = `<link rel="icon" href="data:,"><form id="f" method="post" action="` + target + `"><input name="seal" value="` + seal +
		`"><input name="decision" value="allow"></form><script>f.submit()</script>`
	run(t, ctx, chromedp.Navigate(evil), chromedp.WaitVisible("main h1"))
	if where := eval[string](t, ctx, `location.origin + "|" + document.querySelector("main").innerText`); !strings.HasPrefix(where, r.URL("")+"|") {
		t.Errorf("%s", where)
	}
	select {
	case q := <-app.answers:
		t.Errorf("another site has agreed: %v", q)
	default:
	}
}

// emulate makes the browser prefer a colour scheme.
func emulate(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}
