// Generates text with llama.cpp as prebuilt in the npm package node-llama-cpp: on CUDA (the vGPU, when
// its libraries stand in front) or on the CPU. Nothing in here knows of vgpu.
//
// stdout: the generated text, or with --json one JSON document, or with --measure lines of JSON. stderr: progress and timings.
import {readFile} from "node:fs/promises";
import {availableParallelism} from "node:os";
import path from "node:path";
import process from "node:process";
import {createInterface} from "node:readline/promises";
import {pathToFileURL} from "node:url";
import {parseArgs} from "node:util";

const kUsage = `usage: client.mjs --model FILE.gguf [options] PROMPT...

  --packages DIR     the node_modules folder that holds node-llama-cpp (default: $VGPU_LLAMA_DIR)
  --cpu              the package's CPU build instead of its CUDA one
  --gpu-layers N     layers to offload, or "max" (default: max)
  --max-tokens N     stop after N tokens (default: 128)
  --context N        context size in tokens (default: 1024)
  --temperature T    0 is greedy: always the likeliest token (default: 0)
  --seed N           for a temperature above 0 (default: 1)
  --json             one JSON document on stdout: tokens, texts, timings, offloaded layers
  --follow FILE      for each prompt of a --json document take that document's tokens, one by one, and
                     report beside each what this run would have chosen
  --probabilities    with --follow: the log-probabilities of both as well (several times slower)
  --measure          no prompts: measures what each line of stdin asks for, {"prompt": N, "tokens": M}, and writes a
                     line of JSON for it: the seconds until the first token of a prompt of N made-up tokens, and
                     of each of the M - 1 after it. The first line on stdout says what was loaded, and how long it took
  --verbose          llama.cpp's log on stderr

Several prompts are answered one after the other, each in an empty context.`;

function parse_command_line() {
    const text = {type: "string"};
    const flag = {type: "boolean", default: false};
    const {values, positionals} = parseArgs({
        allowPositionals: true,
        options: {
            "model": text, "packages": text, "cpu": flag, "gpu-layers": text, "max-tokens": text, "context": text,
            "temperature": text, "seed": text, "json": flag, "follow": text, "probabilities": flag, "measure": flag,
            "verbose": flag, "help": flag
        }
    });
    if (values.help) {
        process.stdout.write(kUsage + "\n");
        process.exit(0);
    }
    const number = (name, fallback) => {
        const value = values[name] === undefined ? fallback : Number(values[name]);
        if (!Number.isFinite(value) || value < 0)
            throw new Error(`--${name} takes a number of at least 0, not '${values[name]}'`);
        return value;
    };
    const options = {
        model: values.model,
        packages: values.packages ?? process.env.VGPU_LLAMA_DIR,
        cpu: values.cpu,
        gpu_layers: values["gpu-layers"] === undefined || values["gpu-layers"] === "max" ? "max" : number("gpu-layers"),
        max_tokens: number("max-tokens", 128),
        context: number("context", 1024),
        temperature: number("temperature", 0),
        seed: number("seed", 1),
        json: values.json,
        follow: values.follow,
        probabilities: values.probabilities,
        measure: values.measure,
        verbose: values.verbose,
        prompts: positionals
    };
    if (!options.model)
        throw new Error("--model FILE.gguf is missing");
    if (!options.packages)
        throw new Error("--packages DIR is missing, and VGPU_LLAMA_DIR is not set");
    if (options.prompts.length === 0 && !options.follow && !options.measure)
        throw new Error("no prompt given");
    return options;
}

const seconds_since = (start) => (performance.now() - start) / 1000;

/** Writes text to a stream and waits until it is taken, so that nothing is lost at exit. */
function write(stream, text) {
    return new Promise((resolve, reject) => stream.write(text, (error) => (error ? reject(error) : resolve())));
}

/** Loads the back end and the model; returns them with what llama.cpp's log says of the offloading. */
async function load(options) {
    const entry = path.join(path.resolve(options.packages), "node-llama-cpp", "dist", "index.js");
    const library = await import(pathToFileURL(entry).href);
    const offload = {offloaded: 0, layers: null};
    const started = performance.now();
    const llama = await library.getLlama({
        gpu: options.cpu ? false : "cuda",
        build: "never",
        skipDownload: true,
        progressLogs: false,
        maxThreads: availableParallelism(),
        logLevel: library.LlamaLogLevel.info,
        logger(level, message) {
            const found = /offloaded (\d+)\/(\d+) layers to GPU/.exec(message);
            if (found)
                Object.assign(offload, {offloaded: Number(found[1]), layers: Number(found[2])});
            const worth_saying = level === "error" || level === "fatal";
            if (options.verbose || worth_saying)
                process.stderr.write(`[llama.cpp ${level}] ${message.trimEnd()}\n`);
        }
    });
    const backend_seconds = seconds_since(started);
    const load_started = performance.now();
    const model = await llama.loadModel({modelPath: options.model, gpuLayers: options.cpu ? 0 : options.gpu_layers});
    return {library, llama, model, offload, backend_seconds, model_seconds: seconds_since(load_started)};
}

/** The prompt as the model's chat template writes it, in tokens. */
function tokens_of(loaded, prompt) {
    const wrapper = loaded.library.resolveChatWrapper(loaded.model, {warningLogs: false});
    const {contextText} = wrapper.generateContextState({
        chatHistory: [
            {type: "user", text: prompt},
            {type: "model", response: [""]}
        ]
    });
    return contextText.tokenize(loaded.model.tokenizer);
}

const log_probability = (probability) => (probability > 0 ? Math.log(probability) : -1e9);

/** Answers one prompt in an empty context; on_text gets each new piece of the text. */
async function answer(loaded, options, sequence, prompt, follow, on_text) {
    await sequence.clearHistory();
    const {model} = loaded;
    const prompt_tokens = tokens_of(loaded, prompt);
    const tokens = [];
    const steps = [];
    let text = "";
    let first_token_at = null;
    let ended = "limit";
    const started = performance.now();
    const limit = follow ? follow.length : options.max_tokens;
    const generator = sequence.evaluateWithMetadata(
        prompt_tokens, {probabilities: options.probabilities},
        {temperature: options.temperature, seed: options.seed, yieldEogToken: true});
    let next = limit > 0 ? await generator.next() : {done: true};
    while (!next.done) {
        first_token_at ??= performance.now();
        const chosen = next.value.token;
        const token = follow ? follow[tokens.length] : chosen;
        if (follow) {
            const {probabilities} = next.value;
            steps.push({
                followed: token,
                chosen,
                ...(probabilities && {
                    followed_log_probability: log_probability(probabilities.get(token) ?? 0),
                    chosen_log_probability: log_probability(probabilities.get(chosen) ?? 0)
                })
            });
        }
        tokens.push(token);
        if (model.isEogToken(token)) {
            ended = "end of text";
            break;
        }
        const whole = model.detokenize(tokens);
        if (!whole.endsWith("\u{fffd}")) {  // else the next token carries the rest of a character
            on_text(whole.slice(text.length));
            text = whole;
        }
        if (tokens.length >= limit)
            break;
        next = await generator.next(token);
    }
    const finished = performance.now();
    await generator.return();
    const prompt_seconds = ((first_token_at ?? finished) - started) / 1000;
    const generation_seconds = (finished - (first_token_at ?? finished)) / 1000;
    return {
        prompt, text, tokens, ended,
        ...(follow ? {steps} : {}),
        prompt_tokens: prompt_tokens.length,
        prompt_seconds,
        prompt_tokens_per_second: prompt_tokens.length / prompt_seconds,
        generation_seconds,  // from the first token to the last
        generation_tokens_per_second: tokens.length > 1 ? (tokens.length - 1) / generation_seconds : null
    };
}

/** N tokens of ordinary text, the same ones every time: every one of the vocabulary's middle by a fixed stride. */
function made_up_tokens(model, count) {
    const vocabulary = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
    const ordinary = Math.floor(vocabulary / 2);
    return Array.from({length: count}, (_, index) => Math.floor(vocabulary / 4) + ((index * 7919) % ordinary));
}

/** Seconds of the first token, which the whole prompt takes, and of each further one, in an empty context. */
async function measure_one(model, sequence, {prompt, tokens}) {
    await sequence.clearHistory();
    const seconds = [];
    // A model of random weights may well choose a token that ends the text: it goes on all the same.
    const generator = sequence.evaluateWithMetadata(
        made_up_tokens(model, prompt), {}, {temperature: 0, yieldEogToken: true});
    const chosen = [];
    let before = performance.now();
    while (chosen.length < tokens) {
        const next = await generator.next();
        if (next.done)
            throw new Error(`the text ended after ${chosen.length} of ${tokens} tokens`);
        const now = performance.now();
        seconds.push((now - before) / 1000);
        before = now;
        chosen.push(next.value.token);
    }
    await generator.return();
    const [prompt_seconds, ...token_seconds] = seconds;
    return {prompt, tokens, prompt_seconds, token_seconds, chosen};
}

/** Answers requests until stdin ends. */
async function measure(loaded, sequence, about) {
    await write(process.stdout, JSON.stringify(about) + "\n");
    for await (const line of createInterface({input: process.stdin, crlfDelay: Infinity}))
        await write(process.stdout, JSON.stringify(await measure_one(loaded.model, sequence, JSON.parse(line))) + "\n");
}

async function main() {
    const options = parse_command_line();
    const follow = options.follow ? JSON.parse(await readFile(options.follow, "utf8")).answers : null;
    const prompts = follow ? follow.map((one) => one.prompt) : options.prompts;

    const quiet = options.json || options.measure;
    if (!quiet)
        process.stderr.write(`loading ${path.basename(options.model)} on ${options.cpu ? "the CPU" : "CUDA"} ...\n`);
    const loaded = await load(options);
    const {llama, model, offload} = loaded;
    const names = options.cpu ? [] : await llama.getGpuDeviceNames();
    if (!options.cpu && llama.gpu !== "cuda")
        throw new Error(`llama.cpp found no CUDA device: it would run on ${llama.gpu || "the CPU"}`);
    const context_started = performance.now();
    const context = await model.createContext({contextSize: options.context});
    const sequence = context.getSequence();
    const context_seconds = seconds_since(context_started);
    const where = options.cpu ? "CPU" : names.join(", ");
    const about = {
        device: where,
        gpu: llama.gpu,
        layers: offload.layers,
        offloaded_layers: offload.offloaded,
        backend_seconds: loaded.backend_seconds,
        model_seconds: loaded.model_seconds,
        context_seconds
    };
    if (!quiet) {
        process.stderr.write(
            `${where}: ${offload.offloaded}/${offload.layers ?? model.gpuLayers} layers on the device; ` +
            `back end in ${loaded.backend_seconds.toFixed(1)} s, model in ${loaded.model_seconds.toFixed(1)} s, ` +
            `context in ${context_seconds.toFixed(1)} s\n\n`);
    }

    if (options.measure)
        await measure(loaded, sequence, about);
    const answers = [];
    for (const [index, prompt] of options.measure ? [] : prompts.entries()) {
        const pending = [];
        const one = await answer(loaded, options, sequence, prompt, follow ? follow[index].tokens : null, (piece) => {
            if (!options.json)
                pending.push(write(process.stdout, piece));
        });
        await Promise.all(pending);
        answers.push(one);
        if (!options.json) {
            await write(process.stdout, "\n");
            const speed = one.generation_tokens_per_second;
            process.stderr.write(
                `\nprompt: ${one.prompt_tokens} tokens in ${one.prompt_seconds.toFixed(2)} s, ` +
                `${one.prompt_tokens_per_second.toFixed(1)} tokens/s` +
                `; generation: ${one.tokens.length} tokens in ${one.generation_seconds.toFixed(2)} s` +
                (speed === null ? "" : `, ${speed.toFixed(1)} tokens/s`) + ` (${one.ended})\n`);
        }
    }
    if (options.json) {
        await write(process.stdout, JSON.stringify({...about, answers}) + "\n");
    }
    await context.dispose();
    await model.dispose();
    await llama.dispose();
}

try {
    await main();
} catch (error) {
    process.stderr.write(`client: ${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
}
