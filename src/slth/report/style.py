"""The page's style: light and dark, from 400 pixels up, system fonts."""

CSS = """
:root{color-scheme:light dark;--page:#f6f6f3;--panel:#fff;--ink:#1d2126;--muted:#5b636d;--grid:#dcdee1;
--first:#1f6fb2;--second:#c8590a;--third:#0c8a64;--good:#0c7a58;--bad:#b3400a;--shade:#1d212633}
@media (prefers-color-scheme:dark){:root{--page:#14171a;--panel:#1c2024;--ink:#e6e8ea;--muted:#a2abb5;--grid:#363c43;
--first:#5aa9e6;--second:#f08c3a;--third:#3cc79a;--good:#3cc79a;--bad:#f0904a;--shade:#000a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1060px;margin:0 auto;padding:40px 20px 64px}
.kicker{margin:0;color:var(--muted);font-size:14px}
h1{margin:2px 0 14px;font-size:30px;line-height:1.2;font-weight:650;overflow-wrap:anywhere}
h2{margin:0 0 6px;font-size:20px;line-height:1.3;font-weight:650}
h3{margin:0 0 4px;font-size:16px;font-weight:650}
p{margin:0 0 12px;max-width:74ch}
.lead{font-size:19px;line-height:1.5;margin-bottom:26px}
.lead b{font-weight:650;white-space:nowrap}
section{margin-top:40px}
.panel,.facts{background:var(--panel);border:1px solid var(--grid);border-radius:8px}
.panel{padding:16px 18px;min-width:0;margin:0}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(168px,1fr));margin:0;overflow:hidden}
.facts div{padding:10px 14px;border-top:1px solid var(--grid);border-left:1px solid var(--grid);
margin:-1px 0 0 -1px;min-width:0}
dt{color:var(--muted);font-size:13px}
dd{margin:0;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:18px;align-items:start}
.below{margin-top:14px}
figcaption,.note{color:var(--muted);font-size:14px;line-height:1.5;max-width:80ch}
figcaption{margin-top:8px}
.note{margin:10px 0 0}
svg{display:block;width:100%;height:auto;max-width:960px;margin:6px auto 0;overflow:visible;font-family:inherit}
svg *{stroke-linejoin:round}
svg text{font-variant-numeric:tabular-nums}
.half svg{max-width:500px}
.scroll{overflow-x:auto;background:linear-gradient(90deg,var(--panel) 40%,transparent),linear-gradient(270deg,
var(--panel) 40%,transparent) 100% 0,linear-gradient(90deg,var(--shade),transparent),linear-gradient(270deg,
var(--shade),transparent) 100% 0;background-repeat:no-repeat;background-size:36px 100%,36px 100%,12px 100%,12px 100%;
background-attachment:local,local,scroll,scroll}
.scroll svg{min-width:680px}
.tall{max-height:640px;overflow:auto}
.tall th,.tall tfoot td{position:sticky;background:var(--panel)}
.tall th{top:0;box-shadow:0 1px var(--grid)}
.tall tfoot td{bottom:0;box-shadow:0 -1px var(--grid)}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:6px 7px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--grid)}
th{color:var(--muted);font-weight:500;vertical-align:bottom}
th:first-child,td:first-child{padding-left:0}
th:last-child,td:last-child{padding-right:0}
.left{text-align:left}
tfoot td{border-bottom:0;font-weight:650}
tbody:last-child tr:last-child td{border-bottom:0}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:14px}
pre{margin:0;overflow-x:auto;line-height:1.6}
.sum{font-variant-numeric:tabular-nums;margin:10px 0 4px;max-width:none;overflow-wrap:break-word}
.sum span,figcaption span{white-space:nowrap}
.key{display:inline-block;width:11px;height:11px;border-radius:2px;margin:0 5px 0 12px}
.plan{max-width:466px}.plan text{fill:var(--ink);text-anchor:middle;font-size:14px;font-style:italic}
.plan .big{font-size:22px;font-style:normal}.plan .edge{fill:var(--muted)}
.plan line.kept{stroke:var(--first);stroke-width:2}.plan line.cut,.plan circle.cut{stroke:var(--muted);
stroke-dasharray:3 4;opacity:.6}.plan circle{fill:var(--panel);stroke:var(--ink);stroke-width:1.4}
.plan circle.kept{stroke:var(--first);stroke-width:2}
.plan rect.window{fill:var(--first);opacity:.16}.plan line.axis{stroke:var(--muted)}
.plan line.aim{stroke:var(--first);stroke-width:1.5}.plan circle.in{fill:var(--first);stroke:none}
.plan circle.out{fill:var(--muted);stroke:none}
.k1{background:#2b83d0}.k2{background:#d97016}.k3{background:#149e74}
.line{display:inline-block;width:16px;border-top:2px solid var(--second);vertical-align:4px;margin-right:4px}
.dash{border-top:2px dashed var(--third)}
.good{color:var(--good)}.bad{color:var(--bad)}
.verdict{font-size:17px;font-weight:650}
ul{margin:0 0 12px;padding-left:20px}
footer{margin-top:44px;color:var(--muted);font-size:13px}
@media (max-width:560px){main{padding:24px 12px 48px}h1{font-size:25px}.lead{font-size:17px}.panel{padding:14px 12px}
.facts{grid-template-columns:repeat(2,minmax(0,1fr))}.facts div{padding:8px 10px}}
@media print{body{background:#fff}.tall{max-height:none}.panel,.facts{break-inside:avoid}}
"""
