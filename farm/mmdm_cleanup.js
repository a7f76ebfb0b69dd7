// SPDX-License-Identifier: GPL-3.0-or-later
//
// A job type for Flamenco 3.5 and newer: motion files of a folder, cleaned up by all workers together.
// Put this file into the folder "scripts" beside flamenco-manager. docs/farm.md explains the rest.

const AS_SOURCE = "as the source";

const JOB_TYPE = {
    label: "Motion Clean-up (MMDM)",
    settings: [
        { key: "takes", type: "string", subtype: "dir_path", required: true,
          description: "Folder of .bvh, .fbx, .glb, .gltf and .blend files, with everything below it; all workers must see it" },
        { key: "results", type: "string", subtype: "dir_path", required: true,
          description: "Folder of the run: results and report; all workers must be able to write there" },
        { key: "steps", type: "string", required: true, default: "detect,fill,refine",
          description: "Of detect, fill, complete and refine, divided by commas" },
        { key: "format", type: "string", required: true, default: AS_SOURCE,
          choices: [AS_SOURCE, "bvh", "fbx", "glb", "blend"], description: "Format of the results" },
        { key: "strength", type: "float", default: 1.0, propargs: { min: 0.05, max: 1.0 },
          description: "How strongly jitter is taken out" },
        { key: "lock_feet", type: "bool", default: true, description: "Planted feet stay where they are" },
        { key: "only", type: "string", default: "",
          description: "Only files whose name, or path below the folder, fits, as day1/*.bvh; empty for all" },
        { key: "chunks", type: "int32", required: true, default: 10, propargs: { min: 1, max: 1000 },
          description: "So many tasks share the files; one per 10 to 50 files is a good number" },
        { key: "batch_script", type: "string", subtype: "file_path", default: "",
          description: "batch.py of a copy of the add-on that all workers see; empty where the extension is installed in their Blender" },
    ]
};

function compileJob(job) {
    const settings = job.settings;
    const words = batchWords(settings);
    const report = author.Task("report", "blender");
    report.addCommand(batchCommand(settings, words.concat("--report")));
    for (var i = 1; i <= settings.chunks; i++) {
        const chunk = author.Task("clean-up-" + i + "-of-" + settings.chunks, "blender");
        chunk.addCommand(batchCommand(settings, words.concat("--part", i + "/" + settings.chunks)));
        report.addDependency(chunk);
        job.addTask(chunk);
    }
    job.addTask(report); // last, because a task is copied as it stands when it is added
}

// What all tasks of a job say to the batch. Results of equal settings are not made twice, so these must be the same.
function batchWords(settings) {
    if (!(settings.chunks >= 1)) {
        throw "The number of chunks must be at least 1.";
    }
    const words = [onFarm(settings.takes, "takes"), "--out", onFarm(settings.results, "results"), "--do", settings.steps];
    if (settings.format && settings.format !== AS_SOURCE) {
        words.push("--format", settings.format);
    }
    if (settings.strength !== undefined) {
        words.push("--strength", String(settings.strength));
    }
    if (settings.lock_feet === false) {
        words.push("--no-lock-feet");
    }
    if (settings.only) {
        words.push("--only", settings.only);
    }
    return words;
}

// A path that means the same on every worker. "//" is Blender's sign for "beside this file".
function onFarm(path, name) {
    if (!path || path.indexOf("//") === 0) {
        throw "Give the whole path of the folder of " + name + ", as the workers see it, and not '" + (path || "") + "'.";
    }
    return path;
}

function batchCommand(settings, words) {
    const how = settings.batch_script
        ? ["--python-exit-code", "1", "--python", onFarm(settings.batch_script, "the add-on"), "--"]
        : ["--command", "mmdm"];
    return author.Command("blender-render", {
        exe: "{blender}",
        exeArgs: "{blenderArgs}",
        argsBefore: [],
        blendfile: "", // the batch opens its files itself
        args: how.concat(words),
    });
}
