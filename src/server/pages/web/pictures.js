// Pictures that a person shows: read from files, made small enough for the browser's storage, kept as data: addresses.

export const maxPictures = 8;  // of a message
const types = /^image\/(png|jpeg|webp|gif)$/;
const maxKept = 300_000;       // characters of an address
const sides = [1280, 1024, 768, 512, 384, 256];  // of which the first that fits is taken

export function isPicture(file) {
    return file.type.startsWith('image/');
}

// What a message of a file may hold: nothing that the page would load from elsewhere.
export function isPictureList(list) {
    const isAddress = (url) => typeof url === 'string' && url.length <= maxKept &&
        /^data:image\/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*$/.test(url);
    return Array.isArray(list) && list.length <= maxPictures && list.every(isAddress);
}

// The file as it is where it is small, else drawn smaller. Throws Error where the browser cannot show it.
export async function readPicture(file) {
    if (types.test(file.type) && file.size * 4 / 3 < maxKept - 100) {
        const url = await addressOf(file);
        await shown(url);
        return url;
    }
    const bitmap = await createImageBitmap(file).catch(() => {
        throw new Error('not a picture that this browser can show');
    });
    try {
        for (const side of sides) {
            const url = drawn(bitmap, Math.min(1, side / Math.max(bitmap.width, bitmap.height)));
            if (url.length <= maxKept) return url;
        }
    } finally {
        bitmap.close();
    }
    throw new Error('the picture is too large');
}

// What is transparent lies on white, as on the server.
function drawn(bitmap, scale) {
    const canvas = document.createElement('canvas');
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const context = canvas.getContext('2d');
    context.fillStyle = '#fff';
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL('image/jpeg', 0.9);
}

function addressOf(file) {
    return new Promise((done, failed) => {
        const reader = new FileReader();
        reader.addEventListener('load', () => done(reader.result));
        reader.addEventListener('error', () => failed(new Error('the file cannot be read')));
        reader.readAsDataURL(file);
    });
}

async function shown(url) {
    const image = new Image();
    image.src = url;
    await image.decode().catch(() => {
        throw new Error('not a picture that this browser can show');
    });
}
