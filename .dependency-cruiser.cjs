// Import directions (docs/architecture.md): a module may import what stands below it, never up or sideways.
const layers = {
  cli: ['daemon', 'config', 'doctor', 'net', 'explain', 'cri', 'sandbox', 'container', 'image', 'streaming', 'cni-invoker', 'oci', 'steps', 'store', 'host'],
  net: ['host'],
  explain: ['host'],
  doctor: ['config', 'cni-invoker', 'oci', 'host'],
  cri: ['config', 'sandbox', 'container', 'image', 'streaming', 'stats'],
  stats: ['container', 'sandbox', 'image', 'oci', 'host', 'config'],
  telemetry: ['steps', 'cni-invoker', 'oci', 'container', 'sandbox', 'config'],
  streaming: ['container', 'sandbox', 'oci', 'host'],
  sandbox: ['image', 'cni-invoker', 'oci', 'steps', 'store', 'host', 'config'],
  container: ['sandbox', 'image', 'oci', 'steps', 'store', 'host', 'config'],
  image: ['steps', 'store', 'host', 'config'],
  'cni-invoker': ['host'],
  oci: ['host', 'config'],
  steps: ['store'],
  store: [],
  config: [],
  host: [],
};
// What anyone may import: the error catalogue, the log, the contract's types.
const common = ['errors\\.ts', 'log\\.ts', 'cri-api/'];

const rules = Object.entries(layers).map(([layer, below]) => ({
  name: `${layer}-imports-downward`,
  comment: `src/${layer} may import ${below.join(', ') || 'nothing of the project but the common files'}`,
  severity: 'error',
  from: { path: `^src/${layer}/` },
  to: { path: '^src/', pathNot: `^src/(${[...common, ...[layer, ...below].map(name => `${name}/|${name}\\.ts`)].join('|')})` },
}));

module.exports = {
  forbidden: [
    ...rules,
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-orphans', severity: 'error', from: { orphan: true, path: '^src/', pathNot: '(main|worker|thread)\\.ts$|types\\.ts$' }, to: {} },
    { name: 'ffi-only-in-host', severity: 'error', from: { path: '^src/', pathNot: '^src/host/' }, to: { path: 'node_modules/koffi' } },
    { name: 'src-does-not-import-tests', severity: 'error', from: { path: '^src/' }, to: { path: '^(test|hack)/' } },
  ],
  options: { tsConfig: { fileName: 'tsconfig.json' }, tsPreCompilationDeps: true, doNotFollow: { path: 'node_modules' }, exclude: { path: '^node_modules' } },
};
