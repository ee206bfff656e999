"""The style of HTML reports: light and dark, readable on paper and on a narrow screen."""

from __future__ import annotations

STYLE = """
:root { --ink: #1d2329; --soft: #616b75; --page: #fbfbf9; --card: #ffffff; --line: #e1e3e0; --batch: #3569a8;
  --other: #6d97cc; --soak: #d9dedb; --approval: #c2571a; --warn: #a33a12; --warn-soft: #fdf0e6; --good: #2e7045;
  --reboot: #f7d9b8; --reload: #f5e8b8; --drain: #d7e6f5; --restart: #dfefdc; --none: #ececea; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6e3; --soft: #9aa4ac; --page: #15181b; --card: #1d2125; --line: #32383d; --batch: #6fa3e0;
  --other: #4675ab; --soak: #3a4247; --approval: #ee9359; --warn: #f0a57a; --warn-soft: #35241a; --good: #7fc796;
  --reboot: #5a3f22; --reload: #524720; --drain: #25405c; --restart: #28432b; --none: #2d3236; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .8rem; }
h3 { font-size: 1rem; margin: 0 0 .8rem; display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; }
h3 span { font-size: .8rem; font-weight: normal; border: 1px solid var(--line); border-radius: 1em; padding: 0 .7em; }
header p { margin: 0; }
.kicker { color: var(--soft); font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; }
.faint, small, figcaption { color: var(--soft); }
small { font-size: .82rem; }
code { font: .86em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.source { display: block; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(155px, 1fr)); gap: .75rem; margin-top: 1.5rem; }
.tiles div, article, .chart { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .9rem 1rem; }
.tiles b { display: block; font-size: 1.35rem; line-height: 1.2; font-weight: 600; }
.tiles span { display: block; font-size: .88rem; }
.tiles small { display: block; line-height: 1.3; margin-top: .25rem; }
.tiles .warns b { color: var(--warn); }
article { margin-bottom: .9rem; }
p.warns { background: var(--warn-soft); border-left: 3px solid var(--warn); padding: .4rem .8rem; margin: .8rem 0; }
.path { list-style: none; display: flex; flex-wrap: wrap; gap: .55rem 1.5rem; padding: 0; margin: 0; }
.path li { position: relative; flex: 0 1 auto; min-width: 9.5rem; max-width: 21rem; border-radius: 6px;
  padding: .45rem .7rem; font-size: .9rem; line-height: 1.35; background: var(--none); }
.path li:not(:last-child)::after { content: "\\2192"; position: absolute; right: -1.25rem; top: 50%;
  transform: translateY(-50%); color: var(--soft); }
.path small { display: block; color: inherit; opacity: .78; }
.path em { font-style: normal; border: 1px solid currentColor; border-radius: 3px; padding: 0 .3em; }
.path .reboot { background: var(--reboot); } .path .module-reload { background: var(--reload); }
.path .drain { background: var(--drain); } .path .restart { background: var(--restart); }
.path .noreturn { box-shadow: inset 0 0 0 2px var(--warn); }
.folds { display: flex; flex-wrap: wrap; gap: 0 1.6rem; margin-top: .4rem; }
details { margin-top: .4rem; }
.folds details[open] { flex-basis: 100%; }
summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
details ul { margin: .4rem 0 .6rem; padding-left: 1.1rem; font-size: .9rem; }
ul.names { columns: 9rem; list-style: none; padding: 0; }
section > ul { padding-left: 1.1rem; } section > ul > li { margin-bottom: .45rem; }
.good::marker { color: var(--good); content: "\\2713\\00a0"; }
.new { color: var(--warn); font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: normal; font-size: .82rem; }
.number { text-align: right; padding-right: 1.6rem; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; min-width: 640px; }
.chart { overflow-x: auto; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
svg .tick, svg .faint { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--line); }
svg .batch { fill: var(--batch); } svg .soak { fill: var(--soak); } svg .approval { fill: var(--approval); }
svg .pair { fill: var(--batch); opacity: .6; }
svg .wait { fill: none; stroke: var(--soak); stroke-dasharray: 3 3; }
svg .out { fill: var(--other); opacity: .55; }
.legend { font-size: .85rem; color: var(--soft); }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .35em 0 .9em; }
.legend .batch { background: var(--batch); margin-left: 0; } .legend .soak { background: var(--soak); }
.legend .pair { background: var(--batch); opacity: .6; }
.legend .approval { background: var(--approval); transform: rotate(45deg) scale(.8); }
footer { border-top: 1px solid var(--line); margin-top: 3rem; color: var(--soft); }
@media print { body { background: none; } details { break-inside: avoid; } .chart { overflow: visible; } }
""".strip()
