// Imports an OCI layout into the root of a daemon that does not run: node import-layout.mjs ROOT STATE LAYOUT
import { mkdirSync } from 'node:fs';
import { openImages } from '../../dist/image/images.js';
import { silentLogger } from '../../dist/log.js';
import { openStore } from '../../dist/store/store.js';

const [root, state, layout] = process.argv.slice(2);
mkdirSync(root, { recursive: true, mode: 0o711 });
const store = openStore(`${root}/store`, () => {});
const images = await openImages({ root, state, store, log: silentLogger(), host: {} });
await images.import(layout);
await images.close();
await store.close();
