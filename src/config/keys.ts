// The whole configuration file in its canonical layout (containerd's version 3), as one zod schema.
// Every known key, its default and what it means are declared below here and nowhere else. layouts.ts
// brings files of other versions into this layout first.
import { z } from 'zod';
import { daemonKeys, otlpSection } from './keys/daemon.ts';
import { foreignSections } from './keys/foreign.ts';
import { imagesSection, transferSection, verifierSection } from './keys/images.ts';
import { ownSection } from './keys/own.ts';
import { runtimeSection } from './keys/runtime.ts';
import { streamingSection } from './keys/streaming.ts';
import { honoured, section } from './notes.ts';
import { ratio, text } from './values.ts';

export const runtimePlugin = 'io.containerd.cri.v1.runtime';
export const imagesPlugin = 'io.containerd.cri.v1.images';
export const criPlugin = 'io.containerd.grpc.v1.cri';
export const verifierPlugin = 'io.containerd.image-verifier.v1.bindir';
export const transferPlugin = 'io.containerd.transfer.v1.local';
export const otlpPlugin = 'io.containerd.tracing.processor.v1.otlp';
export const tracingPlugin = 'io.containerd.internal.v1.tracing';
export const ownPlugin = 'io.cri-ts';

export const configFile = z.object({
  ...daemonKeys,
  plugins: section({
    [runtimePlugin]: runtimeSection,
    [imagesPlugin]: imagesSection,
    [criPlugin]: streamingSection,
    [verifierPlugin]: verifierSection,
    [transferPlugin]: transferSection,
    [otlpPlugin]: otlpSection,
    [tracingPlugin]: section({
      sampling_ratio: honoured(ratio().default(1), 'Share of requests that are traced, 0 to 1.'),
      service_name: honoured(text().default('cri-ts'), 'Name under which traces appear.'),
    }),
    [ownPlugin]: ownSection,
    ...foreignSections,
  }),
});

/** A checked file with every default filled in. */
export type ConfigFile = z.infer<typeof configFile>;

/** A file that says nothing: every default. */
export function defaultFile(): ConfigFile {
  return configFile.parse({});
}
