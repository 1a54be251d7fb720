package retention

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"longshore/internal/core/distribution"
)

// Item is a tag or an untagged manifest: Name is the tag or the digest. Zero Pulled means never.
type Item struct {
	Name           string
	Pushed, Pulled time.Time
}

// Engine is a compiled Config; safe for concurrent use.
type Engine struct {
	cfg      Config
	policies []policy
}

type policy struct {
	Policy
	repos []*regexp.Regexp
	tags  [][]*regexp.Regexp // per KeepTags rule
}

// New compiles globs and expressions.
func New(cfg Config) (*Engine, error) {
	e := &Engine{cfg: cfg}
	for i, p := range cfg.Policies {
		c := policy{Policy: p}
		for _, g := range p.Repositories {
			re, err := Glob(g)
			if err != nil {
				return nil, fmt.Errorf("retention policy %d: %w", i+1, err)
			}
			c.repos = append(c.repos, re)
		}
		for _, rule := range p.KeepTags {
			var res []*regexp.Regexp
			for _, text := range rule.Patterns {
				re, err := regexp.Compile(text)
				if err != nil {
					return nil, fmt.Errorf("retention policy %d: tag pattern: %w", i+1, err)
				}
				res = append(res, re)
			}
			c.tags = append(c.tags, res)
		}
		e.policies = append(e.policies, c)
	}
	return e, nil
}

// DryRun says that the caller shall report and delete nothing.
func (e *Engine) DryRun() bool { return e.cfg.DryRun }

// For is the ruling on a repository; ok is false when no policy matches, and everything is kept.
func (e *Engine) For(repo distribution.RepoName) (Ruling, bool) {
	for i := range e.policies {
		if matchAny(e.policies[i].repos, string(repo)) {
			return Ruling{&e.policies[i], e.cfg.Delay}, true
		}
	}
	return Ruling{}, false
}

// Ruling is the policy that a repository falls under.
type Ruling struct {
	p     *policy
	delay time.Duration
}

// DropTags says which tags go. Each tag counts under the first rule whose patterns match it only.
func (r Ruling) DropTags(tags []Item, now time.Time) []Item {
	if len(r.p.KeepTags) == 0 {
		return nil
	}
	groups := make([][]Item, len(r.p.KeepTags))
	var drop []Item
	for _, t := range tags {
		i := slices.IndexFunc(r.p.tags, func(res []*regexp.Regexp) bool { return len(res) == 0 || matchAny(res, t.Name) })
		if i < 0 {
			drop = append(drop, t)
			continue
		}
		groups[i] = append(groups[i], t)
	}
	for i, group := range groups {
		drop = append(drop, losers(r.p.KeepTags[i], group, now)...)
	}
	return drop
}

// DropUntagged says which untagged manifests go: those older than the delay that no rule keeps.
func (r Ruling) DropUntagged(manifests []Item, now time.Time) []Item {
	if !r.p.DeleteUntagged {
		return nil
	}
	if keep := r.p.KeepUntagged; keep != nil && !keep.empty() {
		manifests = losers(*keep, manifests, now)
	}
	return r.old(manifests, now)
}

// DropReferrers says which of the manifests whose subject is missing go.
func (r Ruling) DropReferrers(orphans []Item, now time.Time) []Item {
	if !r.p.DeleteReferrers {
		return nil
	}
	return r.old(orphans, now)
}

func (r Ruling) old(items []Item, now time.Time) []Item {
	var old []Item
	for _, i := range items {
		if now.Sub(i.Pushed) >= r.delay {
			old = append(old, i)
		}
	}
	return old
}

// empty rules set no condition.
func (r Rule) empty() bool {
	return r.PulledWithin == 0 && r.PushedWithin == 0 && r.MostRecentlyPushedCount == 0 && r.MostRecentlyPulledCount == 0
}

// losers are the items that no condition of the rule keeps.
func losers(r Rule, items []Item, now time.Time) []Item {
	if r.empty() {
		return nil
	}
	keep := map[string]bool{}
	for _, i := range items {
		if r.PushedWithin > 0 && now.Sub(i.Pushed) <= r.PushedWithin || r.PulledWithin > 0 && now.Sub(i.Pulled) <= r.PulledWithin {
			keep[i.Name] = true
		}
	}
	top(keep, items, r.MostRecentlyPushedCount, func(i Item) time.Time { return i.Pushed })
	top(keep, items, r.MostRecentlyPulledCount, func(i Item) time.Time { return i.Pulled })
	return slices.DeleteFunc(slices.Clone(items), func(i Item) bool { return keep[i.Name] })
}

// top keeps the n items with the latest times; equal times go by name, so that the outcome is always the same.
func top(keep map[string]bool, items []Item, n int, at func(Item) time.Time) {
	if n <= 0 {
		return
	}
	sorted := slices.Clone(items)
	slices.SortFunc(sorted, func(a, b Item) int {
		if c := at(b).Compare(at(a)); c != 0 {
			return c
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	for _, i := range sorted[:min(n, len(sorted))] {
		keep[i.Name] = true
	}
}

func matchAny(res []*regexp.Regexp, s string) bool {
	return slices.ContainsFunc(res, func(re *regexp.Regexp) bool { return re.MatchString(s) })
}
