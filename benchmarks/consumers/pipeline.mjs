// What transformers.js makes of an ONNX directory: reads {directory, task, dtype, texts or images}
// from stdin, writes {inputs, outputs}, numbers by name; with {tokens} it generates so many. Nothing
// but local files is asked for.
import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { env, pipeline, RawImage } from "@huggingface/transformers";

const { directory, task, dtype, texts, images, tokens } = JSON.parse(readFileSync(0, "utf8"));
env.allowRemoteModels = false;
env.localModelPath = dirname(directory);

const pipe = await pipeline(task, basename(directory), { dtype });
const inputs = texts
  ? pipe.tokenizer(texts, { padding: true, truncation: true })
  : await pipe.processor(
      images.map((i) => new RawImage(new Uint8ClampedArray(i.data), i.width, i.height, i.channels)),
    );
const greedy = { max_new_tokens: tokens, min_new_tokens: tokens, do_sample: false };
const outputs = tokens
  ? { sequences: await pipe.model.generate({ ...inputs, ...greedy }) }
  : await pipe.model(inputs);

const plain = (tensors) =>
  Object.fromEntries(
    Object.entries(tensors)
      .filter(([, t]) => t?.dims)
      .map(([name, t]) => [name, { shape: t.dims, data: Array.from(t.data, Number) }]),
  );
process.stdout.write(JSON.stringify({ inputs: plain(inputs), outputs: plain(outputs) }));
