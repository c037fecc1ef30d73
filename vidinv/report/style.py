"""Look of the page: quiet, light or dark, one column on a phone; source grey, output blue."""

STYLE = """
:root{--ink:#1b2330;--soft:#5d6878;--line:#e3e6ea;--paper:#fff;--ground:#f6f7f8;
--source:#8a94a3;--output:#1f5fbf;--inversion:#a9741b;--identity:#c4314b;--flicker:#b8600b;
--border:#7a4fb5;--good:#1f7a4d;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa5b4;--line:#2f3641;--paper:#1c2128;
--ground:#14181d;--source:#8f9aa9;--output:#6ea8ff;--inversion:#d9a54a;--identity:#ff6b81;
--flicker:#f0a04b;--border:#b794f0;--good:#4cc38a}}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue",sans-serif;font-variant-numeric:tabular-nums;
-webkit-text-size-adjust:100%}
main{max-width:1180px;margin:0 auto;padding:36px 24px 56px}
h1{font-size:30px;line-height:1.2;margin:2px 0 0;letter-spacing:-.015em;overflow-wrap:anywhere}
h2{font-size:19px;margin:0 0 2px;letter-spacing:-.01em}
h3{font-size:13px;font-weight:600;color:var(--soft);margin:0}
p{margin:0}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
section{margin-top:40px}
.eyebrow{color:var(--soft);font-size:13px;font-weight:600}
.against{color:var(--soft);margin-top:4px;overflow-wrap:anywhere}.against b{color:var(--ink);
font-weight:600}
.facts{list-style:none;display:flex;flex-wrap:wrap;gap:2px 18px;padding:0;margin:10px 0 0;
color:var(--soft);font-size:14px}
.note{color:var(--soft);font-size:14px;max-width:80ch;margin-bottom:14px}
.none{color:var(--soft)}
.verdict{margin-top:26px;padding:20px 22px;background:var(--paper);border:1px solid var(--line);
border-left:4px solid var(--good);border-radius:8px}
.verdict.bad{border-left-color:var(--identity)}
.lead{font-size:21px;font-weight:650;letter-spacing:-.01em;margin-bottom:2px}
.chips{display:flex;flex-wrap:wrap;gap:8px;margin-top:14px}.chips:empty{display:none}
button{font:inherit;color:inherit;text-align:left;cursor:pointer}
button:focus-visible,a:focus-visible{outline:2px solid var(--output);outline-offset:2px}
.chip{background:none;border:1px solid var(--line);border-radius:999px;padding:4px 13px;
font-size:14px}
.chip b{color:var(--mark)}.chip:hover{border-color:var(--mark)}
.identity{--mark:var(--identity)}.flicker{--mark:var(--flicker)}.border{--mark:var(--border)}
.figures{display:grid;grid-template-columns:repeat(4,1fr);gap:1px;
margin-top:20px;background:var(--line);border:1px solid var(--line);border-radius:8px;
overflow:hidden}
@media(min-width:821px){.card:nth-child(9){grid-column:1/-1}}
.card{background:var(--paper);padding:15px 18px 16px;font-size:13px;color:var(--soft)}
.figure{font-size:27px;line-height:1.3;font-weight:600;color:var(--ink);letter-spacing:-.02em}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(212px,1fr));gap:14px}
.pairs.small{grid-template-columns:repeat(auto-fill,minmax(160px,1fr))}
.pairs.three{grid-template-columns:repeat(auto-fill,minmax(min(100%,270px),1fr))}
.pairs.three.small{grid-template-columns:repeat(auto-fill,minmax(210px,1fr))}
.pair{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:0;
overflow:hidden;
display:block;font-size:13px}
.pair:hover,.pair.held{border-color:var(--output)}.pair.held{box-shadow:0 0 0 1px var(--output)}
.images{display:flex;gap:1px;background:var(--line)}
.images img{display:block;flex:1;min-width:0;width:100%;height:auto;aspect-ratio:1}
.place,.why{display:flex;flex-wrap:wrap;gap:1px 8px;padding:0 10px;color:var(--soft)}
.place{padding-top:7px}.place b{color:var(--ink)}.why{padding-bottom:8px}
.tag{color:var(--mark);font-weight:600}
.time{display:grid;grid-template-columns:minmax(0,1fr);gap:24px}
.js .time{grid-template-columns:minmax(0,1fr) 290px;align-items:start}
.charts{display:grid;gap:20px;min-width:0}
figure{margin:0}
.halves{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));
gap:20px 24px}
.halves .plot{height:104px}
figcaption{display:flex;flex-wrap:wrap;gap:0 14px;align-items:baseline;font-size:14px;
margin-bottom:6px}
figcaption b{font-weight:600}.unit{color:var(--soft);font-weight:400}
.key{color:var(--soft);font-size:13px}
.key::before{content:"";display:inline-block;width:14px;height:0;border-top:2px solid var(--colour);
margin-right:5px;vertical-align:.28em}
.source{--colour:var(--source)}.output,.face{--colour:var(--output)}.inversion{
--colour:var(--inversion)}
.key.border,.curve.border{--colour:var(--border)}
.plot{position:relative;height:132px;margin-left:46px;background:var(--paper);cursor:crosshair;
touch-action:pan-y}
.plot svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.plot line,.plot polyline{vector-effect:non-scaling-stroke;fill:none}
.grid{stroke:var(--line);stroke-width:1}
.level{stroke:var(--soft);stroke-width:1;stroke-dasharray:2 4}
.cut{stroke:var(--ink);stroke-width:1;stroke-dasharray:5 4;opacity:.55}
.curve{stroke:var(--colour);stroke-width:1.7;stroke-linejoin:round}
.curve.behind{opacity:.28}
.mark{fill:var(--mark);opacity:.2}
.tick,.level-label{position:absolute;transform:translateY(-50%);font-size:12px;color:var(--soft);
pointer-events:none;white-space:nowrap}
.tick{right:100%;margin-right:8px}
.level-label{right:4px;transform:translateY(-100%);padding:0 3px;line-height:1.35;
background:color-mix(in srgb,var(--paper) 60%,transparent)}
.level-label.under{transform:none}
.cursor{position:absolute;top:0;bottom:0;width:1px;background:var(--ink);opacity:.75;display:none;
pointer-events:none}
.panel{position:sticky;top:16px;background:var(--paper);border:1px solid var(--line);
border-radius:8px;
overflow:hidden;font-size:14px}
.panel .images img+img{border-left:1px solid var(--paper)}
.panel .images{min-height:20px}
.panel .where{padding:10px 14px 2px;font-weight:600}
.panel .where small{display:block;font-weight:400;color:var(--soft)}
.tracks{display:flex;flex-wrap:wrap;gap:5px;padding:5px 14px 2px}.tracks:empty{display:none}
.tracks button{background:none;border:1px solid var(--line);border-radius:999px;padding:0 9px;
font-size:13px}
.tracks button[hidden]{display:none}
.tracks button[aria-pressed=true]{border-color:var(--output);color:var(--output);font-weight:600}
.panel dl{display:grid;grid-template-columns:1fr auto;gap:1px 12px;margin:4px 14px 12px}
.panel dt{color:var(--soft)}.panel dd{margin:0;text-align:right}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:28px 40px}
.boxes{background:var(--paper);border:1px solid var(--line);border-radius:8px;
padding:14px 18px 10px}
.boxes .rows{position:relative;padding:6px 0}.boxes .rows.with-levels{padding-top:26px}
.row{display:flex;align-items:center;height:34px}
.row .name{width:74px;color:var(--soft);font-size:13px;flex:none}
.row .track,.numbers,.over{position:relative}
.row .track{flex:1;height:100%}
.row i,.over i{position:absolute;display:block}
.whisker{top:50%;height:0;border-top:1.5px solid var(--colour)}
.row .box{top:8px;bottom:8px;border:1.5px solid var(--colour);border-radius:2px;background:
color-mix(in srgb,var(--colour) 16%,var(--paper));min-width:2px}
.row .median{top:8px;bottom:8px;border-left:2.5px solid var(--colour);margin-left:-1px}
.row .mean{top:50%;width:7px;height:7px;margin:-3.5px;transform:rotate(45deg);background:var(--ink)}
.row .dot{top:50%;width:5px;height:5px;margin:-2.5px;border-radius:50%;background:var(--colour);
opacity:.75}
.over{position:absolute;inset:0 0 0 74px;pointer-events:none}
.over .at{top:20px;bottom:0;border-left:1px dashed var(--soft)}
.at-label{position:absolute;top:0;transform:translateX(-50%);font-size:12px;color:var(--soft);
white-space:nowrap}
.numbers{height:20px;margin-left:74px;border-top:1px solid var(--line);font-size:12px;
color:var(--soft)}
.numbers span{position:absolute;transform:translateX(-50%);top:3px}
h2+.scroll{margin-top:12px}
.scroll{overflow-x:auto;background:var(--paper);border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:7px 12px;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
thead th{border-top:0;color:var(--soft);font-weight:600;font-size:13px}
th:first-child,td:first-child{text-align:left}
.clips th,.clips td{padding:7px 8px}
.index td:nth-child(2),.index th:nth-child(2){text-align:left;white-space:normal;min-width:150px}
a{color:var(--output);text-decoration:none}a:hover{text-decoration:underline}
.failed{color:var(--identity);font-weight:600}
.prose{max-width:78ch;color:var(--soft);font-size:14px}.prose p+p{margin-top:8px}.prose code{
color:var(--ink)}
footer{margin-top:28px;color:var(--soft);font-size:13px}
@media(max-width:820px){
main{padding:20px 14px 40px}h1{font-size:24px}section{margin-top:32px}.verdict{padding:16px}
.js .time{grid-template-columns:minmax(0,1fr)}
.figures{grid-template-columns:repeat(2,1fr)}.card{padding:12px 13px}.figure{font-size:22px}
.card:last-child:nth-child(odd){grid-column:1/-1}
.pairs{grid-template-columns:repeat(auto-fill,minmax(158px,1fr));gap:10px}
.pairs.small{grid-template-columns:repeat(auto-fill,minmax(140px,1fr))}
.pairs.three,.pairs.three.small{grid-template-columns:repeat(auto-fill,minmax(210px,1fr))}
.plot{margin-left:40px;height:116px}
.panel{position:sticky;top:auto;bottom:8px;display:grid;grid-template-columns:124px 1fr;
box-shadow:0 6px 24px #1b233026;z-index:2}
.panel[hidden]{display:none}
.panel .images{grid-row:1/4;align-self:stretch;align-items:center}.panel .where{padding:8px 12px 0}
.panel .tracks{padding:3px 12px 0}
.panel dl{margin:2px 12px 8px;font-size:12.5px;gap:0 10px;grid-template-columns:1fr auto}
.panel dl .less{display:none}
th,td{padding:7px 11px}}
@media print{:root{--ground:#fff}.panel{display:none}.pair,.chart,.boxes{break-inside:avoid}}
"""
